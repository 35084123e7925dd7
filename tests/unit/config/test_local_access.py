"""Files and functions of the worker's machine: what configurations from files and over REST may use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from headrace.cli.loading import load
from headrace.errors import Finding
from headrace.interpolation import make_interpolator
from headrace.local_access import LocalAccess
from headrace.registry import Registry
from headrace.settings import WorkerSettings
from headrace.validation import Validator

INSTALLED = Registry()
SEARCH = {"name": "a", "connector.class": "ElasticsearchSink", "connection.url": "http://e", "topics": "t"}
SQL = {"name": "a", "connector.class": "SqlSource", "mode": "bulk", "table.whitelist": "t", "topic.prefix": "x."}
POSTGRES = {**SQL, "connection.url": "postgresql://u:p@h/d"}
MYSQL = {**SQL, "connection.url": "mysql://u:p@h/d"}
WITHOUT_PASSWORD = {**SQL, "connection.url": "postgresql://u@rogue/d"}
STREAM = {"name": "a", "connector.class": "Stream", "inputs.v": "t", "outputs.o": "s"}
FILE, LISTED = "/etc/kubernetes/admin.conf", "connector.files.allowed.paths"


def validator(**lists: str) -> Validator:
    keys = {"files": LISTED, "functions": "connector.functions.allowed"}
    settings = WorkerSettings.parse(
        {"bootstrap.servers": "k:9092", **{keys[name]: text for name, text in lists.items()}}
    )
    return Validator(INSTALLED, make_interpolator(INSTALLED), local_access=LocalAccess.of(settings))


def refused(findings: list[Finding]) -> list[str]:
    return [finding.key for finding in findings if finding.code == "config.not_allowed"]


NAMING_FILES = [
    ({**SEARCH, "mapping.file": FILE}, "mapping.file"),
    ({**SEARCH, "elastic.https.ssl.truststore.location": FILE}, "elastic.https.ssl.truststore.location"),
    ({**SEARCH, "elastic.https.ssl.keystore.location": FILE}, "elastic.https.ssl.keystore.location"),
    ({**SEARCH, "consumer.override.ssl.keystore.location": FILE}, "consumer.override.ssl.keystore.location"),
    ({**SEARCH, "consumer.override. ssl_cafile": FILE}, "consumer.override. ssl_cafile"),
    ({**SEARCH, "admin.override.sasl.kerberos.keytab": FILE}, "admin.override.sasl.kerberos.keytab"),
    ({**POSTGRES, "delete.ledger.directory": FILE}, "delete.ledger.directory"),
    ({**POSTGRES, "connection.passfile": FILE}, "connection.passfile"),
    ({**POSTGRES, "connection. sslkey": FILE}, "connection.sslkey"),
    ({**POSTGRES, "connection.sslrootcert": FILE}, "connection.sslrootcert"),
    ({**SQL, "connection.url": f"postgresql://u:p@h/d?sslcert={FILE}"}, "connection.url"),
    ({**SQL, "connection.url": f"jdbc:postgresql://h/d?user=u&password=p&sslcert={FILE}"}, "connection.url"),
    ({**SQL, "connection.url": f"mysql://u:p@h/d?ssl_key={FILE}"}, "connection.url"),
    ({**SQL, "connection.url": f"sqlite:///{FILE}"}, "connection.url"),
    ({**SQL, "connection.url": f"jdbc:sqlite:{FILE}"}, "connection.url"),
    ({**SQL, "connection.url": f"sqlite:///file:{FILE}?uri=true&mode=ro"}, "connection.url"),
]


@pytest.mark.parametrize(("config", "key"), NAMING_FILES)
class TestFiles:
    def test_over_rest_no_file_is_allowed_without_a_list(self, config: dict[str, str], key: str) -> None:
        for findings in (validator().unresolved_connector(config), validator().connector(config)[1]):
            (finding,) = (item for item in findings if item.code == "config.not_allowed")
            assert finding.key == key
            assert FILE in finding.message
            assert f"set {LISTED}" in finding.hint

    def test_over_rest_files_of_the_list_are_allowed(self, config: dict[str, str], key: str) -> None:
        assert refused(validator(files="/etc/kubernetes").unresolved_connector(config)) == []

    def test_files_of_the_command_line_may_name_any_without_a_list(self, config: dict[str, str], key: str) -> None:
        assert refused(validator().connector(config, trusted=True)[1]) == []

    def test_a_list_applies_to_files_of_the_command_line_too(self, config: dict[str, str], key: str) -> None:
        assert refused(validator(files="/etc/headrace").connector(config, trusted=True)[1]) == [key]


class TestMappingFile:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        (tmp_path / "allowed").mkdir()
        for name in ("allowed/mapping.yaml", "other.yaml"):
            (tmp_path / name).write_text("properties: {sku: {type: keyword}}\n")
        (tmp_path / "allowed/link.yaml").symlink_to(tmp_path / "other.yaml")
        return tmp_path

    @pytest.mark.parametrize(
        ("path", "allowed"),
        [
            ("allowed/mapping.yaml", True),
            ("other.yaml", False),
            ("allowed/../other.yaml", False),
            ("allowed/link.yaml", False),
            ("allowed-not/mapping.yaml", False),
        ],
    )
    def test_neither_dots_nor_links_lead_out_of_the_folder(self, folder: Path, path: str, allowed: bool) -> None:
        found = validator(files=f"{folder}/allowed").unresolved_connector(
            {**SEARCH, "mapping.file": f"{folder}/{path}"}
        )
        assert [finding.key for finding in found] == ([] if allowed else ["mapping.file"])

    def test_a_refusal_does_not_say_whether_the_file_exists_or_is_a_mapping(self, folder: Path) -> None:
        there, missing = (
            str(validator().unresolved_connector({**SEARCH, "mapping.file": f"{folder}/{name}"})).replace(name, "X")
            for name in ("other.yaml", "missing.yaml")
        )
        assert there == missing

    def test_the_value_of_a_placeholder_is_checked_when_the_connector_starts(self, folder: Path) -> None:
        names = folder / "names.properties"
        names.write_text("good=mapping.yaml\nbad=../other.yaml\n")
        provider = make_interpolator(INSTALLED, settings={"file.param.allowed.paths": str(names)})
        confined = Validator(INSTALLED, provider, local_access=LocalAccess(files=[folder / "allowed"]))

        def found(name: str) -> list[str]:
            config = {**SEARCH, "mapping.file": f"{folder}/allowed/${{file:{names}:{name}}}"}
            return [finding.key for finding in confined.connector(config)[1]]

        assert found("good") == []
        assert found("bad") == ["mapping.file"]


class TestCredentialsThatTheDriverFinds:
    """libpq sends them to the server of the URL, whichever that is."""

    @pytest.fixture(autouse=True)
    def home(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("PGPASSFILE", "PGPASSWORD", "PGSERVICEFILE"):
            monkeypatch.delenv(name, raising=False)
        return tmp_path

    def test_no_password_is_needed_where_there_is_none(self) -> None:
        assert validator().unresolved_connector(WITHOUT_PASSWORD) == []

    def test_the_password_file_must_be_allowed(self, home: Path) -> None:
        (home / ".pgpass").write_text("db:5432:*:u:secret\n")
        config = {**SQL, "connection.url": "postgresql://u@db/d?hostaddr=192.0.2.1"}
        assert refused(validator().unresolved_connector(config)) == ["connection.password"]
        assert refused(validator(files=str(home)).unresolved_connector(config)) == []
        assert refused(validator().connector(config, trusted=True)[1]) == []

    def test_an_empty_password_is_none(self, home: Path) -> None:
        (home / ".pgpass").write_text("db:5432:*:u:secret\n")
        assert refused(validator().connector({**WITHOUT_PASSWORD, "connection.password": " "})[1]) == [
            "connection.password"
        ]
        assert refused(validator().connector({**WITHOUT_PASSWORD, "connection.password": "x"})[1]) == []

    def test_the_workers_password_variable_is_not_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PGPASSWORD", "s3cret-9")
        (finding,) = validator(files="/").unresolved_connector(WITHOUT_PASSWORD)
        assert finding.key == "connection.password"
        assert "PGPASSWORD" in finding.message
        assert "s3cret-9" not in str(finding)
        assert refused(validator().connector(WITHOUT_PASSWORD, trusted=True)[1]) == []

    def test_a_service_is_the_file_that_defines_it(self, home: Path) -> None:
        config = {**POSTGRES, "connection.service": "orders"}
        assert refused(validator().unresolved_connector(config)) == ["connection.service"]
        assert refused(validator(files=f"{home}/.pg_service.conf").unresolved_connector(config)) == []


@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({**MYSQL, "connection.init_command": "SET @a = 1"}, "connection.init_command"),
        ({**SQL, "connection.url": "mysql://u:p@h/d?init_command=DROP+TABLE+t"}, "connection.url"),
        (
            {**SQL, "connection.url": "mssql+pyodbc://h/d?Authentication=ActiveDirectoryMsi&driver=D"},
            "connection.url",
        ),
    ],
)
def test_privileges_are_for_files_of_the_command_line_only(config: dict[str, str], key: str) -> None:
    everything = validator(files="/", functions="")
    assert refused(everything.unresolved_connector(config)) == [key]
    assert refused(everything.connector(config)[1]) == [key]
    assert refused(everything.connector(config, trusted=True)[1]) == []


class TestFunctions:
    """Importing a module executes it, and a record may be an argument of any function."""

    @pytest.fixture
    def module(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        (tmp_path / "shop_steps.py").write_text(
            "from pathlib import Path\nPath(__file__).with_name('imported').touch()\nscore = dict\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "shop_steps", raising=False)
        return "shop_steps:score"

    @pytest.mark.parametrize("key", ["steps.s.call", "steps.s.call ", "steps. s.call"])
    @pytest.mark.parametrize("broken", [{}, {"tasks.max": "x"}, {"steps.s.call.x": "1"}, {"inputs.z.tipic": "a"}])
    def test_over_rest_no_module_is_imported_without_a_list(
        self, module: str, key: str, broken: dict[str, str], tmp_path: Path
    ) -> None:
        config = {**STREAM, key: f" {module}", **broken}
        for findings in (validator().unresolved_connector(config), validator().connector(config)[1]):
            (finding,) = (item for item in findings if item.code == "config.not_allowed")
            assert finding.key == key
            assert "set connector.functions.allowed" in finding.hint
        assert not (tmp_path / "imported").exists()

    @pytest.mark.parametrize(
        ("functions", "call", "allowed"),
        [
            ("shop_steps", "shop_steps:score", True),
            ("shop_steps:score", "shop_steps:score", True),
            ("shop_steps:score", "shop_steps:Path", False),
            ("shop", "shop_steps:score", False),
            ("shop", "os:system", False),
            ("", "os:system", False),
        ],
    )
    @pytest.mark.parametrize("trusted", [True, False])
    def test_the_list_names_modules_and_functions(
        self, module: str, functions: str, call: str, allowed: bool, trusted: bool
    ) -> None:
        found = validator(functions=functions).connector({**STREAM, "steps.s.call": call}, trusted=trusted)[1]
        assert [finding.key for finding in found] == ([] if allowed else ["steps.s.call"])

    def test_files_of_the_command_line_may_call_any_without_a_list(self, module: str) -> None:
        assert validator().connector({**STREAM, "steps.s.call": module}, trusted=True)[1] == []

    def test_a_placeholder_does_not_hide_a_function(self, module: str, tmp_path: Path) -> None:
        (tmp_path / "names.properties").write_text(f"name={module}\n")
        provider = make_interpolator(INSTALLED, settings={"file.param.allowed.paths": str(tmp_path)})
        config = {**STREAM, "steps.s.call": f"${{file:{tmp_path}/names.properties:name}}"}
        assert refused(Validator(INSTALLED, provider).connector(config)[1]) == ["steps.s.call"]
        assert not (tmp_path / "imported").exists()


def test_the_lists_of_a_workers_file_apply_to_its_connectors(tmp_path: Path) -> None:
    worker, sink = tmp_path / "worker.yaml", tmp_path / "sink.yaml"
    worker.write_text(f"bootstrap.servers: k:9092\n{LISTED}: {tmp_path}/allowed\nconnector.functions.allowed: shop\n")
    sink.write_text("".join(f"{key}: {value}\n" for key, value in {**SEARCH, "mapping.file": FILE}.items()))

    loaded = load([worker, sink])

    assert refused(loaded.findings) == ["mapping.file"]
    assert refused(loaded.validator.unresolved_connector({**STREAM, "steps.s.call": "os:system"})) == ["steps.s.call"]
