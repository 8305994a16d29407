"""What of GoogleSQL's language BigQuery has.

GoogleSQL's own maximum, less what BigQuery's reference does not know, more what it does
(https://cloud.google.com/bigquery/docs/reference/standard-sql/query-syntax and the pages beside).
"""

from __future__ import annotations

from zetasql.wasi._pb2.zetasql.local_service import local_service_pb2 as service_pb2
from zetasql.wasi._pb2.zetasql.proto import options_pb2
from zetasql.wasi._pb2.zetasql.public import options_pb2 as public_pb2

from .types import array_of, struct_of, type_of
from .wasm import Service

_NOT_IN_BIGQUERY = (
    *("TIMESTAMP_NANOS", "TIMESTAMP_PICOS", "PARSE_TIMESTAMP_WITH_PRECISION_AND_TIMEZONE"),
    *("TOKENIZED_SEARCH", "JSON_TYPE_COMPARISON", "ENABLE_MEASURES", "EXPERIMENTAL_MODULES"),
    *("STRATIFIED_RESERVOIR_TABLESAMPLE", "ENCRYPTION", "PIPE_LOG"),
    *("V_1_1_ARRAY_EQUALITY", "V_1_3_ARRAY_ORDERING", "V_1_3_ARRAY_GREATEST_LEAST"),
    *("V_1_3_PROTO_MAPS", "V_1_3_REPEAT", "V_1_4_UUID_TYPE", "V_1_4_AGGREGATE_FILTERING"),
    *("V_1_4_INSERT_ON_CONFLICT_CLAUSE", "V_1_4_FOR_UPDATE", "V_1_4_LATERAL_JOIN"),
    *("V_1_4_MULTILEVEL_AGGREGATION", "V_1_4_LIMIT_OFFSET_EXPRESSIONS"),
    *("V_1_4_LITERAL_CONCATENATION", "V_1_4_PI_FUNCTIONS", "V_1_4_CHAINED_FUNCTION_CALLS"),
    *("V_1_4_NULLIFZERO_ZEROIFNULL", "V_1_4_FIRST_AND_LAST_N", "V_1_4_DOT_PRODUCT"),
    *("V_1_4_STRUCT_POSITIONAL_ACCESSOR", "V_1_4_MANHATTAN_DISTANCE", "V_1_4_L1_NORM"),
    *("V_1_4_L2_NORM", "V_1_4_ARRAY_ZIP", "V_1_4_MULTIWAY_UNNEST"),
)
_ONLY_IN_BIGQUERY = (
    *("ALTER_COLUMN_SET_DATA_TYPE", "CREATE_TABLE_CLONE", "V_1_3_COLLATION_SUPPORT"),
    *("CREATE_EXTERNAL_TABLE_WITH_PARTITION_COLUMNS", "CREATE_VIEWS_WITH_COLUMN_OPTIONS"),
    *("NON_SQL_PROCEDURE", "V_1_4_LIKE_ANY_SOME_ALL_ARRAY", "V_1_4_LIKE_ANY_SOME_ALL_SUBQUERY"),
    "V_1_4_DISABLE_FLOAT32",
)
_LABELS = array_of(struct_of([("", type_of("STRING")), ("", type_of("STRING"))]))
# OPTIONS of tables, columns and views
# (https://cloud.google.com/bigquery/docs/reference/standard-sql/data-definition-language)
# and of EXPORT DATA (https://cloud.google.com/bigquery/docs/reference/standard-sql/export-statements).
_OPTIONS = {
    "description": type_of("STRING"),
    "labels": _LABELS,
    "friendly_name": type_of("STRING"),
    "expiration_timestamp": type_of("TIMESTAMP"),
    "partition_expiration_days": type_of("FLOAT64"),
    "require_partition_filter": type_of("BOOL"),
    "kms_key_name": type_of("STRING"),
    "default_rounding_mode": type_of("STRING"),
    "max_staleness": type_of("INTERVAL"),
    "enable_change_history": type_of("BOOL"),
    "data_policies": array_of(type_of("STRING")),
    "rounding_mode": type_of("STRING"),
    "privacy_policy": type_of("JSON"),
    "tags": _LABELS,
    "default_table_expiration_days": type_of("FLOAT64"),
    "location": type_of("STRING"),
    "uri": type_of("STRING"),
    "uris": array_of(type_of("STRING")),
    "format": type_of("STRING"),
    "compression": type_of("STRING"),
    "header": type_of("BOOL"),
    "field_delimiter": type_of("STRING"),
    "overwrite": type_of("BOOL"),
    "use_avro_logical_types": type_of("BOOL"),
}


def language_options(service: Service) -> options_pb2.LanguageOptionsProto:
    """The language's options near BigQuery's."""
    most = service.call(
        "GetLanguageOptions",
        service_pb2.LanguageOptionsRequest(maximum_features=True),
        options_pb2.LanguageOptionsProto,
    )
    # By number: some features have two names.
    features = set(most.enabled_language_features)
    features -= {public_pb2.LanguageFeature.Value(f"FEATURE_{name}") for name in _NOT_IN_BIGQUERY}
    features |= {public_pb2.LanguageFeature.Value(f"FEATURE_{name}") for name in _ONLY_IN_BIGQUERY}
    return options_pb2.LanguageOptionsProto(
        product_mode=public_pb2.PRODUCT_EXTERNAL,
        name_resolution_mode=public_pb2.NAME_RESOLUTION_DEFAULT,
        enabled_language_features=map(public_pb2.LanguageFeature.Name, sorted(features)),
        reserved_keywords=["QUALIFY"],
    )


def analyzer_options(
    language: options_pb2.LanguageOptionsProto,
) -> options_pb2.AnalyzerOptionsProto:
    """The analyzer's options for a statement without parameters; OPTIONS as BigQuery knows them."""
    options = options_pb2.AnalyzerOptionsProto(
        language_options=language,
        default_timezone="UTC",
        error_message_mode=public_pb2.ERROR_MESSAGE_ONE_LINE,
        prune_unused_columns=True,  # what is left of a table is what it costs to read
    )
    allowed = options.allowed_hints_and_options
    allowed.disallow_unknown_options = True
    allowed.disallow_duplicate_option_names = True
    for name, kind in _OPTIONS.items():
        allowed.option.add(name=name, type=kind)
    return options
