//! `GetSqlInfo` and `GetXdbcTypeInfo`: what this server can do, complete, because JDBC fails on anything that is missing.

use std::{collections::BTreeMap, sync::LazyLock};

use arrow_flight::{
    error::Result,
    sql::{
        Nullable, Searchable, SqlInfo, SqlNullOrdering, SqlSupportedCaseSensitivity, SqlSupportedTransaction, XdbcDataType,
        XdbcDatetimeSubcode,
        metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoData, XdbcTypeInfoDataBuilder},
    },
};

/// Words that cannot be names without quotes.
const KEYWORDS: [&str; 16] = [
    "DESCRIBE",
    "EXCLUDE",
    "EXPLAIN",
    "ILIKE",
    "INTERVAL",
    "LATERAL",
    "LIMIT",
    "OFFSET",
    "QUALIFY",
    "RECURSIVE",
    "REPLACE",
    "SEMI",
    "SHOW",
    "TABLESAMPLE",
    "UNNEST",
    "WINDOW",
];
const NUMERIC_FUNCTIONS: [&str; 26] = [
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "cot", "degrees", "exp", "floor", "ln", "log", "log10", "log2", "pi", "power",
    "radians", "random", "round", "signum", "sin", "sqrt", "tan", "trunc", "nanvl",
];
const STRING_FUNCTIONS: [&str; 24] = [
    "ascii",
    "btrim",
    "chr",
    "concat",
    "ends_with",
    "initcap",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "octet_length",
    "repeat",
    "replace",
    "reverse",
    "right",
    "rpad",
    "rtrim",
    "split_part",
    "starts_with",
    "strpos",
    "substr",
    "translate",
    "upper",
];
const SYSTEM_FUNCTIONS: [&str; 8] =
    ["arrow_cast", "arrow_typeof", "coalesce", "json_get", "json_get_float", "json_get_int", "json_get_str", "nullif"];
const DATETIME_FUNCTIONS: [&str; 12] = [
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "from_unixtime",
    "make_date",
    "now",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_unixtime",
];

/// The answers to `GetSqlInfo`.
pub fn sql_info() -> Result<&'static SqlInfoData> {
    static DATA: LazyLock<Result<SqlInfoData>> = LazyLock::new(build);
    DATA.as_ref().map_err(|e| arrow_flight::error::FlightError::protocol(e.to_string()))
}

fn build() -> Result<SqlInfoData> {
    let mut info = SqlInfoDataBuilder::new();
    texts(&mut info);
    booleans(&mut info);
    bit_masks(&mut info);
    bounds(&mut info);
    info.append(SqlInfo::SqlSupportsConvert, BTreeMap::<i32, Vec<i32>>::new());
    info.build()
}

fn texts(info: &mut SqlInfoDataBuilder) {
    use SqlInfo::*;
    info.append(FlightSqlServerName, "Tracehouse");
    info.append(FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    info.append(FlightSqlServerArrowVersion, "1.3");
    info.append(FlightSqlServerSubstraitMinVersion, "");
    info.append(FlightSqlServerSubstraitMaxVersion, "");
    info.append(SqlIdentifierQuoteChar, "\"");
    info.append(SqlSearchStringEscape, "\\");
    info.append(SqlExtraNameCharacters, "");
    info.append(SqlSchemaTerm, "schema");
    info.append(SqlProcedureTerm, "procedure");
    info.append(SqlCatalogTerm, "catalog");
    info.append(SqlKeywords, KEYWORDS.as_slice());
    info.append(SqlNumericFunctions, NUMERIC_FUNCTIONS.as_slice());
    info.append(SqlStringFunctions, STRING_FUNCTIONS.as_slice());
    info.append(SqlSystemFunctions, SYSTEM_FUNCTIONS.as_slice());
    info.append(SqlDatetimeFunctions, DATETIME_FUNCTIONS.as_slice());
}

fn booleans(info: &mut SqlInfoDataBuilder) {
    use SqlInfo::*;
    for yes in [
        FlightSqlServerReadOnly,
        FlightSqlServerSql,
        SqlAllTablesAreSelectable,
        SqlSupportsColumnAliasing,
        SqlNullPlusNullIsNull,
        SqlSupportsTableCorrelationNames,
        SqlSupportsExpressionsInOrderBy,
        SqlSupportsOrderByUnrelated,
        SqlSupportsLikeEscapeClause,
        SqlSupportsNonNullableColumns,
        SqlCatalogAtStart,
        SqlCorrelatedSubqueriesSupported,
    ] {
        info.append(yes, true);
    }
    for no in [
        FlightSqlServerSubstrait,
        FlightSqlServerCancel,
        FlightSqlServerBulkIngestion,
        FlightSqlServerIngestTransactionsSupported,
        SqlDdlCatalog,
        SqlDdlSchema,
        SqlDdlTable,
        SqlSupportsDifferentTableCorrelationNames,
        SqlSupportsIntegrityEnhancementFacility,
        SqlSelectForUpdateSupported,
        SqlStoredProceduresSupported,
        SqlMaxRowSizeIncludesBlobs,
        SqlTransactionsSupported,
        SqlDataDefinitionCausesTransactionCommit,
        SqlDataDefinitionsInTransactionsIgnored,
        SqlBatchUpdatesSupported,
        SqlSavepointsSupported,
        SqlNamedParametersSupported,
        SqlLocatorsUpdateCopy,
        SqlStoredFunctionsUsingCallSyntaxSupported,
    ] {
        info.append(no, false);
    }
}

/// Enumerations (one number) and sets of them (one bit each).
fn bit_masks(info: &mut SqlInfoDataBuilder) {
    use SqlInfo::*;
    info.append(FlightSqlServerTransaction, SqlSupportedTransaction::None as i32);
    info.append(FlightSqlServerStatementTimeout, 0);
    info.append(FlightSqlServerTransactionTimeout, 0);
    info.append(SqlIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityLowercase as i32);
    info.append(SqlQuotedIdentifierCase, SqlSupportedCaseSensitivity::SqlCaseSensitivityUnknown as i32);
    info.append(SqlNullOrdering, self::SqlNullOrdering::SqlNullsSortedHigh as i32);
    info.append(SqlSupportedGroupBy, 0b11);
    info.append(SqlSupportedGrammar, 0b011);
    info.append(SqlAnsi92SupportedLevel, 0b001);
    // JDBC reads these as bits, Flight SQL's text calls them a level: limited and full joins.
    info.append(SqlOuterJoinsSupportLevel, 0b110);
    info.append(SqlSchemasSupportedActions, 0);
    info.append(SqlCatalogsSupportedActions, 0);
    info.append(SqlSupportedPositionedCommands, 0);
    info.append(SqlSupportedSubqueries, 0b0111);
    info.append(SqlSupportedUnions, 0b11);
    info.append(SqlSupportedTransactionsIsolationLevels, 0b1);
    info.append(SqlSupportedResultSetTypes, 0b010);
    info.append(SqlSupportedConcurrenciesForResultSetUnspecified, 0);
    info.append(SqlSupportedConcurrenciesForResultSetForwardOnly, 0b010);
    info.append(SqlSupportedConcurrenciesForResultSetScrollSensitive, 0);
    info.append(SqlSupportedConcurrenciesForResultSetScrollInsensitive, 0);
}

/// Bounds: 0 where there is none or it is not known.
fn bounds(info: &mut SqlInfoDataBuilder) {
    use SqlInfo::*;
    for unknown in [
        SqlMaxBinaryLiteralLength,
        SqlMaxCharLiteralLength,
        SqlMaxColumnNameLength,
        SqlMaxColumnsInGroupBy,
        SqlMaxColumnsInIndex,
        SqlMaxColumnsInOrderBy,
        SqlMaxColumnsInSelect,
        SqlMaxColumnsInTable,
        SqlMaxConnections,
        SqlMaxCursorNameLength,
        SqlMaxIndexLength,
        SqlDbSchemaNameLength,
        SqlMaxProcedureNameLength,
        SqlMaxCatalogNameLength,
        SqlMaxRowSize,
        SqlMaxStatementLength,
        SqlMaxStatements,
        SqlMaxTableNameLength,
        SqlMaxTablesInSelect,
        SqlMaxUsernameLength,
        // JDBC reads this one as a long, whatever Flight SQL's text says: no transactions.
        SqlDefaultTransactionIsolation,
    ] {
        info.append(unknown, 0i64);
    }
}

/// The answers to `GetXdbcTypeInfo`: the types that columns have.
pub fn xdbc_types() -> Result<&'static XdbcTypeInfoData> {
    static DATA: LazyLock<Result<XdbcTypeInfoData>> = LazyLock::new(|| {
        use XdbcDataType::*;
        let mut types = XdbcTypeInfoDataBuilder::new();
        for (name, data_type, size, quote) in [
            ("VARCHAR", XdbcVarchar, None, Some("'")),
            ("BIGINT", XdbcBigint, Some(19), None),
            ("INTEGER", XdbcInteger, Some(10), None),
            ("DOUBLE", XdbcDouble, Some(15), None),
            ("BOOLEAN", XdbcBit, Some(1), None),
            ("TIMESTAMP", XdbcTimestamp, Some(29), Some("'")),
        ] {
            let subcode = (data_type == XdbcTimestamp).then_some(XdbcDatetimeSubcode::XdbcSubcodeTimestamp);
            types.append(XdbcTypeInfo {
                type_name: name.into(),
                data_type,
                column_size: size,
                literal_prefix: quote.map(Into::into),
                literal_suffix: quote.map(Into::into),
                nullable: Nullable::NullabilityNullable,
                case_sensitive: quote.is_some(),
                searchable: Searchable::Full,
                sql_data_type: if subcode.is_some() { XdbcDatetime } else { data_type },
                datetime_subcode: subcode,
                num_prec_radix: quote.is_none().then_some(10),
                ..XdbcTypeInfo::default()
            });
        }
        types.build()
    });
    DATA.as_ref().map_err(|e| arrow_flight::error::FlightError::protocol(e.to_string()))
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray, datatypes::UInt32Type};

    use super::*;

    #[test]
    fn nothing_is_missing() {
        let batch = sql_info().unwrap().record_batch([]).unwrap();
        let given: Vec<u32> = batch.column(0).as_primitive::<UInt32Type>().values().to_vec();
        let all: Vec<u32> = (0..1000).filter(|&i| SqlInfo::try_from(i).is_ok()).map(|i| i as u32).collect();
        assert!(all.len() > 85, "{}", all.len());
        assert_eq!(given, all);
        assert_eq!(xdbc_types().unwrap().record_batch(None).unwrap().num_rows(), 6);
    }
}
