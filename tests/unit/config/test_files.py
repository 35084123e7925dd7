"""Files of all formats give the same properties with their locations."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from headrace.errors import ConfigError, Finding
from headrace.files import ConfigFile, read_config_file

Read = Callable[[str, str], ConfigFile]

# Texts that all three formats can represent; YAML has no form for other control characters and U+FEFF, and its
# writer keeps U+0085, U+2028 and U+2029 by breaking lines.
TEXTS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"], exclude_characters="\ufeff\ufffe\uffff"), max_size=30
)
KEYS = st.text(st.characters(categories=["L", "N"], include_characters=".-_:= #\\"), min_size=1, max_size=20)


def refused(read: Read, name: str, text: str) -> list[Finding]:
    with pytest.raises(ConfigError) as caught:
        read(name, text)
    return list(caught.value.findings)


def escaped(text: str) -> str:
    """Return the text as Java escapes it in a .properties file."""
    plain = text.replace("\\", "\\\\")
    for special in " =:#!":
        plain = plain.replace(special, "\\" + special)
    units = plain.encode("utf-16-be")
    codes = [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]
    return "".join(chr(code) if 32 <= code < 127 else f"\\u{code:04x}" for code in codes)


@given(st.dictionaries(KEYS, TEXTS, min_size=1))
def test_one_map_in_three_formats_has_the_same_properties(properties: dict[str, str]) -> None:
    texts = {
        "c.json": json.dumps(properties),
        "c.yaml": yaml.safe_dump(properties, allow_unicode=True, width=1000),
        "c.properties": "".join(f"{escaped(key)}={escaped(value)}\n" for key, value in properties.items()),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts.items():
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            file = read_config_file(path)
            assert file.properties == properties, name
            assert file.positions.keys() == properties.keys()


@given(st.dictionaries(st.sampled_from("abcdef"), st.text("xyz", max_size=3), min_size=1))
def test_positions_are_those_of_the_keys(properties: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in (
            ("c.json", json.dumps(properties, indent=3)),
            ("c.yaml", "# first\n" + yaml.safe_dump({"outer": properties})),
            ("c.properties", "".join(f"! note\n  {key} = {value}\n" for key, value in properties.items())),
        ):
            path = Path(folder) / name
            path.write_text(text, encoding="utf-8")
            for key, place in read_config_file(path).positions.items():
                rest = text.splitlines()[place.line - 1][place.column - 1 :]
                assert rest.lstrip('"').startswith(key.removeprefix("outer."))


class TestYaml:
    @pytest.mark.parametrize("text", ["\tx: 1", "name: o\n\tmode: x\n", "a:\n\tb: 1\n"])
    def test_a_tab_is_reported_with_the_fix(self, read: Read, text: str) -> None:
        (finding,) = refused(read, "c.yaml", text)
        assert "not tabs" in finding.hint

    def test_scalars_keep_the_text_of_the_file(self, read: Read) -> None:
        text = "a: no\nb: 1e3\nc: 0x1F\nd: 2020-01-01\ne: true\nf: 1_000\ng: ''\nh: 007\ni: ~x\n"
        assert read("c.yaml", text).properties == {
            "a": "no",
            "b": "1e3",
            "c": "0x1F",
            "d": "2020-01-01",
            "e": "true",
            "f": "1_000",
            "g": "",
            "h": "007",
            "i": "~x",
        }

    def test_maps_become_dotted_keys_and_lists_become_comma_lists(self, read: Read) -> None:
        file = read("c.yml", "errors:\n  tolerance: all\n  log:\n    enable: true\ntopics:\n  - a\n  - b\n")
        assert file.properties == {"errors.tolerance": "all", "errors.log.enable": "true", "topics": "a,b"}
        assert file.location_of("errors.log.enable").endswith("c.yml:4:5")

    def test_anchors_and_merge_keys_are_resolved(self, read: Read) -> None:
        text = "x: &x {a: 1, b: 2}\ny:\n  <<: *x\n  b: 3\n"
        assert read("c.yaml", text).properties == {"x.a": "1", "x.b": "2", "y.b": "3", "y.a": "1"}

    @pytest.mark.parametrize("null", ["", " ~", " null"])
    def test_a_null_value_is_not_an_empty_text(self, read: Read, null: str) -> None:
        (finding,) = refused(read, "c.yaml", f"a: 1\nkey:{null}\n")
        assert (finding.code, finding.key) == ("config.invalid_value", "key")
        assert "''" in finding.hint

    def test_a_duplicate_key_is_reported_with_both_locations(self, read: Read) -> None:
        (finding,) = refused(read, "c.yaml", "a:\n  b: 1\na.b: 2\n")
        assert finding.code == "config.duplicate_key"
        assert str(finding.location).endswith("c.yaml:3:1")
        assert "c.yaml:2:3" in finding.message

    @pytest.mark.parametrize(
        ("text", "place"),
        [
            ("a: [1\nb: 2\n", "2:2"),
            ("\tx: 1", "1:1"),
            ("a: b: c", "1:5"),
            ("a: !!python/name:os.system x", "1:4"),
            ("a: &a [*a]", "1:4"),
            ("- a", "1:1"),
            ("", "1:1"),
            ("a: 1\n---\nb: 2", "2:1"),
        ],
    )
    def test_invalid_yaml_is_reported_with_its_location(self, read: Read, text: str, place: str) -> None:
        (finding,) = refused(read, "c.yaml", text)
        assert finding.code == "config.syntax"
        assert str(finding.location).endswith(f"c.yaml:{place}")

    def test_exponential_aliases_are_refused(self, read: Read) -> None:
        text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
        for name, before in zip("bcdefgh", "abcdefg", strict=True):
            text += f"{name}: &{name} [{','.join([f'*{before}'] * 10)}]\n"
        assert "fewer aliases" in refused(read, "c.yaml", text)[0].hint

    @pytest.mark.parametrize("items", ["['a,b']", "[a, '']", "[a, ~]", "[[a]]", "[{a: 1}]"])
    def test_a_list_without_a_comma_form_is_refused(self, read: Read, items: str) -> None:
        (finding,) = refused(read, "c.yaml", f"topics: {items}\n")
        assert (finding.code, finding.key) == ("config.invalid_value", "topics")


class TestJson:
    def test_json_numbers_and_booleans_keep_their_text(self, read: Read) -> None:
        text = '{"a": 1.50, "b": true, "c": {"d": [1, "x"]}, "e": "\\u00e9\\ud83d\\ude00"}'
        assert read("c.json", text).properties == {"a": "1.50", "b": "true", "c.d": "1,x", "e": "é😀"}

    def test_the_body_of_post_connectors_is_accepted(self, read: Read) -> None:
        file = read("c.json", '{"name": "shop",\n "config": {"connector.class": "X"}}')
        assert file.properties == {"name": "shop", "connector.class": "X"}
        assert file.is_connector
        assert file.location_of("name").endswith("c.json:1:2")
        assert file.location_of("connector.class").endswith("c.json:2:13")

    def test_two_different_names_are_a_conflict(self, read: Read) -> None:
        (finding,) = refused(read, "c.json", '{"name": "a", "config": {"name": "b"}}')
        assert finding.code == "config.conflict"

    @pytest.mark.parametrize("extra", ["initial_state", "tasks"])
    def test_other_keys_of_a_body_are_refused(self, read: Read, extra: str) -> None:
        (finding,) = refused(read, "c.json", f'{{"name": "a", "{extra}": "x", "config": {{}}}}')
        assert (finding.code, finding.key) == ("config.unknown_key", extra)

    def test_a_duplicate_json_key_is_refused(self, read: Read) -> None:
        assert refused(read, "c.json", '{"a": 1, "a": 2}')[0].code == "config.duplicate_key"

    @pytest.mark.parametrize("text", ['{"a": 1,}', '{"a" 1}', "", "[" * 100_000, "NaN", '"a"', "[1]"])
    def test_invalid_json_is_a_syntax_error(self, read: Read, text: str) -> None:
        assert refused(read, "c.json", text)[0].code == "config.syntax"


class TestProperties:
    @pytest.mark.parametrize(
        ("line", "key", "value"),
        [
            ("a=b", "a", "b"),
            ("  a : b ", "a", "b "),
            ("a b", "a", "b"),
            ("a", "a", ""),
            (r"a\=b=c", "a=b", "c"),
            ("a=b\\\n   c", "a", "bc"),
            ("a=b\\\\\nx=y", "a", "b\\"),
            (r"a=\u00e9\t\q", "a", "é\tq"),
            ("# a comment \\\na=b", "a", "b"),
            ("a=b=c:d", "a", "b=c:d"),
        ],
    )
    def test_a_line_is_parsed_as_by_java(self, read: Read, line: str, key: str, value: str) -> None:
        assert read("c.properties", line).properties[key] == value

    def test_a_malformed_escape_is_a_syntax_error(self, read: Read) -> None:
        (finding,) = refused(read, "c.properties", "a=1\nb=\\u12x4\n")
        assert (finding.code, finding.location and finding.location.line) == ("config.syntax", 2)


class TestFiles:
    def test_an_unknown_file_extension_is_refused(self, read: Read) -> None:
        (finding,) = refused(read, "c.toml", "a = 1")
        assert finding.code == "config.file"
        assert ".yaml" in finding.hint

    def test_a_missing_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            read_config_file(tmp_path / "none.yaml")

    def test_a_file_that_is_not_utf_8_is_refused_with_the_byte(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_bytes(b"a: \xe9\n")
        with pytest.raises(ConfigError, match="byte 4 is not UTF-8"):
            read_config_file(tmp_path / "c.yaml")

    def test_a_byte_order_mark_is_ignored(self, tmp_path: Path) -> None:
        (tmp_path / "c.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
        assert read_config_file(tmp_path / "c.yaml").properties == {"a": "1"}
