//! The schemas of nine claude-mem releases, from tests/data/claude-mem-schemas.json, and
//! the SQL that makes them. The file lists no CHECK constraints and no index predicates;
//! the predicates below are the three that claude-mem uses.

use rusqlite::Connection;
use serde::Deserialize;
use std::collections::HashMap;

const SCHEMAS: &str = include_str!("../../data/claude-mem-schemas.json");

/// A claude-mem release whose schema is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    V9_1_1,
    V10_3_3,
    V10_4_0,
    V10_6_3,
    V12_0_0,
    V12_4_9,
    V13_0_0,
    V13_15_3,
    V13_25_3,
}

impl Version {
    pub const ALL: [Version; 9] = [
        Version::V9_1_1,
        Version::V10_3_3,
        Version::V10_4_0,
        Version::V10_6_3,
        Version::V12_0_0,
        Version::V12_4_9,
        Version::V13_0_0,
        Version::V13_15_3,
        Version::V13_25_3,
    ];

    /// As claude-mem writes it, `13.25.3`.
    pub fn number(self) -> &'static str {
        self.key().rsplit('_').next().unwrap_or_default()
    }

    fn key(self) -> &'static str {
        match self {
            Version::V9_1_1 => "9.1.1",
            Version::V10_3_3 => "10.3.3",
            Version::V10_4_0 => "10.4.0",
            Version::V10_6_3 => "10.6.3",
            Version::V12_0_0 => "12.0.0",
            Version::V12_4_9 => "12.4.9",
            Version::V13_0_0 => "13.0.0",
            Version::V13_15_3 => "HEAD_13.15.3",
            Version::V13_25_3 => "npm_latest_13.25.3",
        }
    }

    /// What the data file says about this release.
    pub fn schema(self) -> Schema {
        let mut file: File = serde_json::from_str(SCHEMAS).expect("the schema file parses");
        file.versions.remove(self.key()).expect("the release is in the schema file")
    }

    /// The highest number in its schema_versions.
    pub fn highest_schema(self) -> i64 {
        self.schema().meta.schema_versions.into_iter().max().expect("a schema version")
    }
}

#[derive(Deserialize)]
struct File {
    versions: HashMap<String, Schema>,
}

#[derive(Deserialize)]
pub struct Schema {
    pub meta: Meta,
    pub tables: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
pub struct Meta {
    pub schema_versions: Vec<i64>,
    pub user_version: i64,
    pub application_id: i64,
    pub journal_mode: String,
    pub auto_vacuum: i64,
    pub page_size: i64,
}

#[derive(Deserialize)]
pub struct Table {
    #[serde(rename = "virtual")]
    pub is_virtual: bool,
    pub columns: Vec<Column>,
    pub autoincrement: bool,
    pub foreign_keys: Vec<ForeignKey>,
    pub indexes: Vec<Index>,
    pub triggers: Vec<String>,
}

#[derive(Deserialize)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub notnull: bool,
    pub default: Option<String>,
    pub pk: i64,
}

#[derive(Deserialize)]
pub struct ForeignKey {
    column: String,
    ref_table: String,
    ref_column: String,
    on_update: String,
    on_delete: String,
}

#[derive(Deserialize)]
pub struct Index {
    pub name: String,
    pub unique: bool,
    origin: String,
    partial: bool,
    columns: Vec<String>,
}

impl Schema {
    pub fn tables(&self) -> Vec<(String, Table)> {
        let parse = |(name, value): (&String, &serde_json::Value)| {
            let table = serde_json::from_value(value.clone()).expect("a table of the schema file");
            (name.clone(), table)
        };
        self.tables.iter().map(parse).collect()
    }

    /// Makes the schema in an empty database, header settings first.
    pub fn create(&self, db: &Connection) {
        let meta = &self.meta;
        let header = format!(
            "PRAGMA page_size={}; PRAGMA auto_vacuum={}; PRAGMA user_version={};
             PRAGMA application_id={}; PRAGMA journal_mode={};",
            meta.page_size, meta.auto_vacuum, meta.user_version, meta.application_id, meta.journal_mode
        );
        db.execute_batch(&header).expect("set the header");
        let mut sql = String::from("BEGIN;\n");
        let tables = self.tables();
        for (name, table) in tables.iter().filter(|(_, table)| !table.is_virtual) {
            sql += &table_sql(name, table);
            let indexes = table.indexes.iter().filter(|index| index.origin == "c");
            sql.extend(indexes.map(|index| index_sql(name, index)));
        }
        for (name, table) in tables.iter().filter(|(_, table)| table.is_virtual) {
            let content = name.trim_end_matches("_fts");
            sql += &fts_sql(content, &columns(table));
            let has_triggers =
                tables.iter().any(|(other, table)| other == content && !table.triggers.is_empty());
            if has_triggers {
                sql += &triggers_sql(content, &columns(table));
            }
        }
        for version in &meta.schema_versions {
            sql += &format!(
                "INSERT INTO schema_versions (version, applied_at) VALUES ({version}, '2025-11-01T09:00:00.000Z');\n"
            );
        }
        sql += "COMMIT;";
        db.execute_batch(&sql).unwrap_or_else(|error| panic!("{error} in\n{sql}"));
    }
}

fn columns(table: &Table) -> Vec<&str> {
    table.columns.iter().map(|column| column.name.as_str()).collect()
}

fn table_sql(name: &str, table: &Table) -> String {
    let keys: Vec<&Column> = table.columns.iter().filter(|column| column.pk > 0).collect();
    let mut parts: Vec<String> = Vec::new();
    for column in &table.columns {
        let mut part = format!("{} {}", column.name, column.kind);
        if column.pk > 0 && keys.len() == 1 {
            part += " PRIMARY KEY";
            if table.autoincrement {
                part += " AUTOINCREMENT";
            }
        }
        if column.notnull {
            part += " NOT NULL";
        }
        if let Some(default) = &column.default {
            part += &format!(" DEFAULT {default}");
        }
        parts.push(part);
    }
    if keys.len() > 1 {
        let mut keys = keys;
        keys.sort_by_key(|column| column.pk);
        let keys: Vec<&str> = keys.iter().map(|column| column.name.as_str()).collect();
        parts.push(format!("PRIMARY KEY ({})", keys.join(", ")));
    }
    // SQLite numbers its automatic indexes in the order of the constraints.
    let mut unique: Vec<&Index> = table.indexes.iter().filter(|index| index.origin == "u").collect();
    unique.sort_by_key(|index| &index.name);
    parts.extend(unique.iter().map(|index| format!("UNIQUE ({})", index.columns.join(", "))));
    parts.extend(table.foreign_keys.iter().map(|key| {
        format!(
            "FOREIGN KEY ({}) REFERENCES {}({}) ON DELETE {} ON UPDATE {}",
            key.column, key.ref_table, key.ref_column, key.on_delete, key.on_update
        )
    }));
    format!("CREATE TABLE {name} (\n  {}\n);\n", parts.join(",\n  "))
}

fn index_sql(table: &str, index: &Index) -> String {
    let unique = if index.unique { "UNIQUE " } else { "" };
    // claude-mem sorts its by-time indexes downwards.
    let by_time = index.columns.len() == 1 && index.columns[0].ends_with("_epoch");
    let order = if by_time && !index.name.starts_with("idx_tool_uses") { " DESC" } else { "" };
    let predicate = match index.name.as_str() {
        _ if !index.partial => "",
        name if name.ends_with("_unsynced") => " WHERE synced_at IS NULL",
        name if name.ends_with("_origin") => " WHERE origin_device_id IS NOT NULL",
        "ux_pending_session_tool" => " WHERE tool_use_id IS NOT NULL",
        name => panic!("the predicate of the partial index {name} is not known"),
    };
    format!(
        "CREATE {unique}INDEX {} ON {table}({}{order}){predicate};\n",
        index.name,
        index.columns.join(", ")
    )
}

fn fts_sql(content: &str, columns: &[&str]) -> String {
    format!(
        "CREATE VIRTUAL TABLE {content}_fts USING fts5({}, content='{content}', content_rowid='id');\n",
        columns.join(", ")
    )
}

fn triggers_sql(content: &str, columns: &[&str]) -> String {
    let names = columns.join(", ");
    let of = |row: &str| columns.iter().map(|name| format!("{row}.{name}")).collect::<Vec<_>>().join(", ");
    let add = format!("INSERT INTO {content}_fts(rowid, {names}) VALUES (new.id, {});", of("new"));
    let remove = format!(
        "INSERT INTO {content}_fts({content}_fts, rowid, {names}) VALUES('delete', old.id, {});",
        of("old")
    );
    format!(
        "CREATE TRIGGER {content}_ai AFTER INSERT ON {content} BEGIN {add} END;\n\
         CREATE TRIGGER {content}_ad AFTER DELETE ON {content} BEGIN {remove} END;\n\
         CREATE TRIGGER {content}_au AFTER UPDATE ON {content} BEGIN {remove} {add} END;\n"
    )
}
