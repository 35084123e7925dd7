"""Mappings from schemas and declared fields, and their compatibility with the mapping of an index."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace import ConfigError, TaskError, schema
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.mappings.compatibility import MappingConflict, additions, conflicts, count, covers
from headrace_sinks.elasticsearch.mappings.declared_mapping import declared_fields, read_mapping_file
from headrace_sinks.elasticsearch.mappings.schema_mapping import MappingPolicy, mapping, merged

ALIAS_BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def fields(**types: str) -> dict[str, Any]:
    return {"properties": {name: {"type": kind} for name, kind in types.items()}}


class TestPolicy:
    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            (MappingPolicy(), {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}}),
            (MappingPolicy(strings="keyword", ignore_above=64), {"type": "keyword", "ignore_above": 64}),
            (MappingPolicy(strings="text"), {"type": "text"}),
        ],
    )
    def test_strings_are_mapped_by_the_policy(self, policy: MappingPolicy, expected: dict[str, Any]) -> None:
        assert mapping(schema.STRING, policy) == expected

    @pytest.mark.parametrize(
        ("decimals", "scale", "expected"),
        [
            ("double", 2, {"type": "double"}),
            ("scaled_float", 2, {"type": "scaled_float", "scaling_factor": 100}),
            ("scaled_float", 0, {"type": "scaled_float", "scaling_factor": 1}),
            ("scaled_float", 127, {"type": "double"}),  # a scaled_float has 64 bits
            ("scaled_float", -2, {"type": "double"}),
            ("keyword", 2, {"type": "keyword"}),
        ],
    )
    def test_decimals_are_mapped_by_the_policy(self, decimals: str, scale: int, expected: dict[str, Any]) -> None:
        assert mapping(schema.decimal(scale), MappingPolicy(decimals=decimals)) == expected

    def test_maps_are_mapped_by_the_policy(self) -> None:
        of = schema.mapping(schema.STRING, schema.INT32)

        assert mapping(of, MappingPolicy(maps="flattened")) == {"type": "flattened"}
        assert mapping(of, MappingPolicy(maps="flattened", compact_maps=False))["properties"]["value"] == {
            "type": "integer"
        }

    def test_names_with_dots_are_objects(self) -> None:
        of = schema.struct({"a.b": schema.INT32, "a.c.d": schema.INT64})

        assert mapping(of)["properties"] == {
            "a": {"properties": {"b": {"type": "integer"}, "c": {"properties": {"d": {"type": "long"}}}}}
        }

    @pytest.mark.parametrize("names", [("a", "a.b"), ("a.b", "a")])
    def test_a_field_that_is_also_an_object_is_an_error(self, names: tuple[str, str]) -> None:
        with pytest.raises(TaskError, match="Elasticsearch reads the first as a field of an object 'a'") as raised:
            mapping(schema.struct(dict.fromkeys(names, schema.INT32)))

        assert raised.value.code == "elasticsearch.dotted_names"


class TestDeclared:
    def test_fields_are_declared_one_per_line(self) -> None:
        lines = {
            "lines.seen": 'date format="yyyy-MM-dd HH:mm||epoch_millis"',
            "lines": "nested dynamic=false",
            "price": "scaled_float scaling_factor=100",
            "title": "text analyzer=english fields.raw.type=keyword fields.raw.ignore_above=64",
        }

        assert declared_fields(lines, {"dynamic": "strict"}) == {
            "dynamic": "strict",
            "properties": {
                "lines": {
                    "type": "nested",
                    "dynamic": False,
                    "properties": {"seen": {"type": "date", "format": "yyyy-MM-dd HH:mm||epoch_millis"}},
                },
                "price": {"type": "scaled_float", "scaling_factor": 100},
                "title": {
                    "type": "text",
                    "analyzer": "english",
                    "fields": {"raw": {"type": "keyword", "ignore_above": 64}},
                },
            },
        }

    @pytest.mark.parametrize(
        ("path", "text", "why"),
        [
            ("a", "keywrod", "did you mean 'keyword'"),
            ("a", "", "empty"),
            ("a", 'date format="x', "quote"),
            ("a", "keyword wide", "'wide' is not of the form name=value"),
            ("a..b", "keyword", "not the path"),
        ],
    )
    def test_an_invalid_declaration_is_reported_with_the_reason(self, path: str, text: str, why: str) -> None:
        with pytest.raises(ConfigError) as raised:
            declared_fields({path: text}, {})

        (finding,) = raised.value.findings
        assert finding.key == f"mapping.fields.{path}"
        assert why in finding.message

    def test_a_field_below_a_scalar_field_is_an_error(self) -> None:
        with pytest.raises(ConfigError, match="'a' is declared as keyword"):
            declared_fields({"a": "keyword", "a.b": "keyword"}, {})

    def test_all_findings_are_reported_with_those_of_other_keys(self) -> None:
        model, findings = ElasticsearchSinkConfig.validate_properties(
            {
                "connection.url": "http://localhost:9200",
                "mapping.fields.a": "keywrod",
                "mapping.fields.b": "lnog",
                "index.lifecycle.delete.after": "30 days",
                "data.stream.retention": "90d",
                "index.template": "_mine",
            }
        )

        assert model is None
        assert [finding.key for finding in findings if finding.severity == "error"] == [
            "index.lifecycle.delete.after",
            "index.lifecycle.delete.after",
            "index.template",
            "data.stream.retention",
            "mapping.fields.a",
            "mapping.fields.b",
        ]

    def test_a_mapping_file_is_read(self, tmp_path: Path) -> None:
        file = tmp_path / "mapping.yaml"
        file.write_text("mappings:\n  dynamic: false\n  properties:\n    sku: {type: keyword}\n")

        assert read_mapping_file(file) == {"dynamic": False, "properties": {"sku": {"type": "keyword"}}}

    @pytest.mark.parametrize(
        ("content", "why"),
        [
            ("a: [", "line 1"),
            ("- a", "'properties'"),
            ("properties: {sku: keyword}", "'sku' has no definition"),
            ("properties: {sku: {type: strnig}}", "no field type 'strnig'"),
            ("properties: {a: {properties: {b: {type: lnog}}}}", "'a.b'"),
            # Finding 6 of the security review: a file that is not a mapping is not sent to the cluster.
            ("apiVersion: v1\nkind: Config\nusers: [{user: {token: s3cret}}]", "'apiVersion' is no key of a mapping"),
            ("properties: {a: {type: long}}\ntoken: s3cret", "'token' is no key of a mapping"),
            (ALIAS_BOMB, "more than 20000 values"),
            ("properties: &a {x: *a}", "more than 20000 values"),
            ("_meta: " + "{a: " * 900 + "1" + "}" * 900, "nested too deeply"),
            ("#" * (1 << 20) + "\nproperties: {}", "larger than 1 MiB"),
        ],
    )
    def test_an_invalid_mapping_file_is_an_error_with_the_reason(self, tmp_path: Path, content: str, why: str) -> None:
        file = tmp_path / "mapping.yaml"
        file.write_text(content)
        with pytest.raises(ConfigError) as raised:
            read_mapping_file(file)

        assert why in str(raised.value)
        assert raised.value.findings[0].key == "mapping.file"

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
    def test_only_regular_files_are_read(self, path: str) -> None:
        """Finding 6 of the security review: ``/dev/zero`` has no end."""
        with pytest.raises(ConfigError, match=r"not a regular file|Is a directory"):
            read_mapping_file(Path(path))

    def test_a_missing_mapping_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="No such file"):
            read_mapping_file(tmp_path / "mapping.yaml")

    def test_declared_fields_take_precedence_over_the_schema(self) -> None:
        of = schema.struct({"id": schema.INT64, "line": schema.struct({"sku": schema.STRING, "n": schema.INT32})})
        declared = declared_fields({"id": "keyword", "line": "nested", "line.sku": "keyword", "extra": "ip"}, {})

        assert merged(mapping(of), declared)["properties"] == {
            "id": {"type": "keyword"},
            "line": {"type": "nested", "properties": {"sku": {"type": "keyword"}, "n": {"type": "integer"}}},
            "extra": {"type": "ip"},
        }


class TestConflicts:
    @pytest.mark.parametrize(
        ("has", "wants"),
        [
            ("long", "text"),
            ("boolean", "text"),
            ("integer", "long"),  # values above 2^31 would be refused
            ("long", "double"),  # decimals would be truncated
            ("boolean", "integer"),
            ("integer", "boolean"),
            ("long", "date"),
            ("keyword", "object"),
            ("date", "boolean"),
            ("alias", "keyword"),
        ],
    )
    def test_types_that_refuse_or_change_values_are_conflicts(self, has: str, wants: str) -> None:
        assert list(conflicts(fields(a=has), fields(a=wants), {})) == [MappingConflict("a", has, wants)]

    @pytest.mark.parametrize(
        ("has", "wants"),
        [
            ("keyword", "text"),
            ("text", "keyword"),
            ("keyword", "long"),
            ("text", "boolean"),
            ("long", "integer"),
            ("double", "integer"),
            ("float", "double"),
            ("scaled_float", "double"),
            ("date_nanos", "date"),
            ("date", "text"),  # Elasticsearch validates each value
            ("ip", "text"),
            ("flattened", "object"),
            ("object", "flattened"),
            ("nested", "object"),
            ("unsigned_long", "long"),
        ],
    )
    def test_compatible_types_are_no_conflicts(self, has: str, wants: str) -> None:
        assert list(conflicts(fields(a=has), fields(a=wants), {})) == []

    def test_declared_fields_must_be_equal_in_the_index(self) -> None:
        want = {"properties": {"a": {"type": "keyword", "ignore_above": 64}, "b": {"type": "keyword"}}}
        have = {"properties": {"a": {"type": "keyword", "ignore_above": 256}, "b": {"type": "text"}}}

        assert list(conflicts(have, want, want)) == [
            MappingConflict("a", "keyword (ignore_above: 256)", "keyword (ignore_above: 64)"),
            MappingConflict("b", "text", "keyword"),
        ]
        assert list(conflicts(have, want, {})) == []

    def test_a_parameter_that_elasticsearch_omits_has_its_default(self) -> None:
        want = {"properties": {"a": {"type": "keyword", "index": True, "doc_values": False}}}

        assert list(conflicts(fields(a="keyword"), want, want)) == [
            MappingConflict("a", "keyword (doc_values: its default)", "keyword (doc_values: false)")
        ]

    def test_conflicts_in_objects_are_found(self) -> None:
        have = {"properties": {"line": {"type": "nested", **fields(n="keyword", sku="long")}}}
        want = {"properties": {"line": fields(n="long", sku="text")}}

        assert list(conflicts(have, want, {})) == [MappingConflict("line.sku", "long", "text")]


class TestAdditions:
    def test_additions_are_only_the_missing_fields(self) -> None:
        have = {"properties": {"a": {"type": "long"}, "line": {"type": "nested", **fields(n="long")}}}
        want = {"properties": {"a": {"type": "long"}, "b": {"type": "ip"}, "line": fields(n="long", m="long")}}

        assert additions(have, want) == {
            "b": {"type": "ip"},
            "line": {"type": "nested", "properties": {"m": {"type": "long"}}},
        }

    def test_nothing_is_added_below_flattened_or_disabled_objects(self) -> None:
        have = {"properties": {"a": {"type": "flattened"}, "b": {"type": "object", "enabled": False}}}

        assert additions(have, {"properties": {"a": fields(n="long"), "b": fields(n="long")}}) == {}

    @given(st.recursive(st.sampled_from(["long", "keyword", "date"]), lambda inner: st.dictionaries(
        st.sampled_from("abc"), inner, max_size=3), max_leaves=8))  # fmt: skip
    def test_a_mapping_with_its_additions_is_complete(self, tree: Any) -> None:
        def body(node: Any) -> dict[str, Any]:
            return {"properties": {name: body(inner) for name, inner in node.items()}} if isinstance(
                node, dict
            ) else {"type": node}  # fmt: skip

        want = body(tree) if isinstance(tree, dict) else fields(a=tree)
        have: dict[str, Any] = (
            {"properties": {"a": {"properties": {}}}} if isinstance(tree, dict) and "a" not in tree else {}
        )
        complete = merged(have, {"properties": additions(have, want)})

        assert additions(complete, want) == {}
        assert list(conflicts(complete, want, want)) == []


def test_fields_are_counted_as_elasticsearch_does() -> None:
    body = {
        "properties": {
            "a": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},  # 2
            "b": {"properties": {"c": {"type": "long"}}},  # 2
        },
        "runtime": {"d": {"type": "long"}},  # 1
    }

    assert count(body) == 5


def test_settings_are_covered_in_any_notation() -> None:
    assert covers({"a": "1", "b": {"c": "true", "x": 1}, "l": ["1"]}, {"a": 1, "b": {"c": True}, "l": [1]})
    assert not covers({"a": "1"}, {"a": 2})
    assert not covers({"a": "1"}, {"b": 1})
    assert not covers({"l": [1, 2]}, {"l": [1]})
