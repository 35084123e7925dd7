"""Client of Kibana's HTTP API: saved objects and alert rules of one space."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx

from headrace.errors import ConfigError, HeadraceError, InfrastructureError, RetriableError, TaskError
from headrace.kibana.alert_rules import AlertRule
from headrace.kibana.pack import to_ndjson
from headrace.kibana.saved_objects import SavedObject

OLDEST = (8, 19)
"""The oldest version of Kibana that imports the objects of packs."""
_TIMEOUT = httpx.Timeout(60.0, connect=5.0)
_ERRNO = re.compile(r"^\[(?:Errno|SSL)[^\]]*\] ")
_PAGE = 100
_DASHBOARDS_API = (9, 5)
"""The version from which the requests for dashboards are promised to stay."""
_USERS = ("dashboard", "search", "visualization", "lens", "map")
"""Types of objects that use data views."""
_LOGIN = "set HEADRACE_KIBANA_API_KEY, or --user and HEADRACE_KIBANA_PASSWORD"


class KibanaAccess(NamedTuple):
    """Address and credentials of Kibana. ``credentials``: user and password, or an API key."""

    url: str
    credentials: tuple[str, str] | str | None = None
    tls: ssl.SSLContext | None = None


class ImportProblem(NamedTuple):
    """Why Kibana refused one object of an import: ``conflict``, ``missing_references`` …"""

    type: str
    id: str
    reason: str


class KibanaClient:
    """Sends one request after another. Methods raise RetriableError, InfrastructureError and TaskError."""

    def __init__(self, access: KibanaAccess, space: str) -> None:
        """Raise ConfigError for a wrong URL."""
        url, login = _address(access.url)
        credentials = login or access.credentials
        headers = {"kbn-xsrf": "headrace", "accept": "application/json"}
        if isinstance(credentials, str):
            headers["authorization"] = f"ApiKey {credentials}"
        self.url = url
        """For messages: without user and password."""
        self._version = OLDEST
        self._space = "" if space == "default" else f"/s/{quote(space, safe='')}"
        self._http = httpx.Client(
            auth=credentials if isinstance(credentials, tuple) else None,
            headers=headers,
            timeout=_TIMEOUT,
            trust_env=False,
            verify=(access.tls or ssl.create_default_context()) if url.startswith("https:") else False,
        )

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def require_supported(self) -> str:
        """Return the version. Raise InfrastructureError when it is too old, RetriableError while Kibana starts."""
        status = self._json("GET", "/api/status")
        number = str(status.get("version", {}).get("number", ""))
        found = re.match(r"(\d+)\.(\d+)", number)
        if not number and "status" in status:  # Kibana shows the version to users only
            text = f"Kibana at {self.url} does not show its version without credentials"
            raise InfrastructureError(text, code="kibana.denied", hint=_LOGIN)
        if found is None:
            raise self._not_kibana("its status has no version")
        if (int(found[1]), int(found[2])) < OLDEST:
            raise InfrastructureError(
                f"{self.url} is Kibana {number}; packs need 8.19 or newer",
                code="kibana.too_old",
                hint="upgrade Kibana to 8.19 or newer",
            )
        self._version = (int(found[1]), int(found[2]))
        return number

    def tagged(self, tag_id: str) -> list[SavedObject]:
        """Return all dashboards and saved searches with a tag."""
        return self._export(type=["dashboard", "search"], hasReference={"type": "tag", "id": tag_id})

    def of_types(self, *types: str) -> list[SavedObject]:
        """Return all objects of some types."""
        return self._export(type=list(types))

    def _export(self, **selection: Any) -> list[SavedObject]:
        body = {**selection, "excludeExportDetails": True}
        text = self._request("POST", f"{self._space}/api/saved_objects/_export", json=body).text
        try:
            found = [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError as error:
            raise self._not_kibana("an export is not NDJSON") from error
        return [item for item in found if "type" in item]

    def import_objects(self, items: Sequence[SavedObject], *, overwrite: bool) -> list[ImportProblem]:
        """Import objects with the ids that they have. Return what Kibana refused."""
        if not items:
            return []
        place = f"{self._space}/api/saved_objects/_import?overwrite={'true' if overwrite else 'false'}"
        file = ("headrace.ndjson", to_ndjson(items), "application/ndjson")
        answer = self._json("POST", place, files={"file": file})
        return [
            ImportProblem(each.get("type", ""), each.get("id", ""), _why(each.get("error", {})))
            for each in answer.get("errors", ())
        ]

    def is_referenced(self, kind: str, ident: str) -> bool:
        """Return whether a dashboard, search or visualization uses an object."""
        return bool(self._export(type=list(_USERS), hasReference={"type": kind, "id": ident}))

    def delete_object(self, kind: str, ident: str) -> None:
        """Delete a saved object; one that is gone is no error.

        Kibana deprecates the general request. It has others for data views, and from 9.5 on for dashboards.
        """
        name = quote(ident, safe="")
        place = f"/api/saved_objects/{kind}/{name}"
        if kind == "index-pattern":
            place = f"/api/data_views/data_view/{name}"
        elif kind == "dashboard" and self._version >= _DASHBOARDS_API:
            place = f"/api/dashboards/{name}"
        self._request("DELETE", f"{self._space}{place}", gone=True)

    def rule(self, ident: str) -> dict[str, Any] | None:
        """Return an alert rule, None when it does not exist."""
        answer = self._request("GET", self._rule(ident), gone=True)
        return None if answer.status_code == 404 else dict(self._parsed(answer))

    def tagged_rules(self, tag: str) -> list[dict[str, Any]]:
        """Return all alert rules with a tag."""
        found: list[dict[str, Any]] = []
        wanted = quote(f'alert.attributes.tags:"{tag}"', safe="")
        for page in range(1, 1_000):
            place = f"{self._space}/api/alerting/rules/_find?filter={wanted}&per_page={_PAGE}&page={page}"
            data = self._json("GET", place).get("data", [])
            found += data
            if len(data) < _PAGE:
                break
        return found

    def create_rule(self, rule: AlertRule) -> None:
        """Create an alert rule with the id that it has."""
        self._request("POST", self._rule(rule["id"]), json={k: v for k, v in rule.items() if k != "id"})

    def update_rule(self, rule: AlertRule) -> None:
        """Replace an alert rule. Whether it is enabled does not change."""
        body = {name: rule[name] for name in ("name", "schedule", "params", "actions", "tags")}
        self._request("PUT", self._rule(rule["id"]), json=body)

    def delete_rule(self, ident: str) -> None:
        """Delete an alert rule; one that is gone is no error."""
        self._request("DELETE", self._rule(ident), gone=True)

    def _rule(self, ident: str) -> str:
        return f"{self._space}/api/alerting/rule/{quote(ident, safe='')}"

    def _json(self, method: str, place: str, **options: Any) -> Any:
        return self._parsed(self._request(method, place, **options))

    def _parsed(self, answer: httpx.Response) -> Mapping[str, Any]:
        try:
            content = answer.json()
        except ValueError as error:
            raise self._not_kibana(f"status {answer.status_code}, and the body is not JSON") from error
        if not isinstance(content, dict):
            raise self._not_kibana("the body is not a JSON object")
        return content

    def _request(self, method: str, place: str, *, gone: bool = False, **options: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, self.url + place, **options)
        except httpx.TransportError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                text = f"the certificate of Kibana at {self.url} is not trusted: {_ERRNO.sub('', str(error))}"
                raise InfrastructureError(text, code="kibana.untrusted", hint="name its CA with --ca-file") from error
            text = f"Kibana at {self.url} cannot be reached: {_ERRNO.sub('', str(error)) or type(error).__name__}"
            hint = "check that it is running, and --kibana or KIBANA_URL"
            raise RetriableError(text, code="kibana.unreachable", hint=hint) from error
        if answer.status_code < 300 or (gone and answer.status_code == 404):
            return answer
        raise self._error(method, place, answer)

    def _error(self, method: str, place: str, answer: httpx.Response) -> HeadraceError:
        status = answer.status_code
        try:
            message = str(answer.json()["message"])
        except (ValueError, KeyError, TypeError):
            message = ""
        path = place.partition("?")[0]
        said = f"Kibana at {self.url} answered {method} {path} with status {status}{': ' + message if message else ''}"
        if status in (401, 403):
            hint = _LOGIN
            if status == 403:
                hint = "grant 'all' for Saved Objects Management, Data Views, Dashboard, Discover, Tag Management, "
                hint += "and Stack Rules in this space"
            return InfrastructureError(said, code="kibana.denied", hint=hint)
        if status in (502, 503, 504, 429):
            return RetriableError(said, code="kibana.unavailable", hint="try again when Kibana has started")
        if 300 <= status < 400 or not message:
            return self._not_kibana(f"status {status} for {method} {path}")
        if "encryption" in message.lower():
            hint = "set xpack.encryptedSavedObjects.encryptionKey in kibana.yml: alert rules need it"
            return InfrastructureError(said, code="kibana.no_encryption_key", hint=hint)
        return TaskError(said, code="kibana.refused", hint="see `headrace kibana check`")

    def _not_kibana(self, why: str) -> InfrastructureError:
        text = f"{self.url} does not answer as Kibana does: {why}"
        hint = "check --kibana, with the base path of Kibana if it has one; a proxy may have answered"
        return InfrastructureError(text, code="kibana.not_kibana", hint=hint)


def _why(error: Mapping[str, Any]) -> str:
    kind = str(error.get("type", "unknown"))
    detail = error.get("message") or error.get("reason")
    if kind == "missing_references":
        detail = ", ".join(f"{each.get('type')} {each.get('id')}" for each in error.get("references", ()))
    return f"{kind}: {detail}" if detail else kind


def _address(url: str) -> tuple[str, tuple[str, str] | None]:
    """Return a URL without its user, and the user and password. Raise ConfigError, which does not repeat the URL."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise _bad_url() from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise _bad_url()
    credentials = (parsed.username, parsed.password) if parsed.userinfo else None
    return str(parsed.copy_with(userinfo=b"", query=None, fragment=None)).rstrip("/"), credentials


def _bad_url() -> ConfigError:
    text = "the URL of Kibana is not of the form http://host:port"
    return ConfigError(text, code="kibana.bad_url", hint="for example --kibana http://127.0.0.1:5601")
