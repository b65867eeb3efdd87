//! CREATE, ALTER and DROP.

use std::sync::{Arc, atomic::AtomicI64};

use sqlparser::ast::{self, Statement};

use crate::{
    bind::{Binder, canonical, parts, relations::not_found, unsupported},
    collation::Collation,
    database::now,
    error::SqlError,
    exec,
    expr::Frame,
    outcome::{Outcome, Verb},
    session::{Session, steps::done, transaction::Undo},
    state::{ColumnDef, Constraints, Name, Object, TableDef, Unique, ViewDef, fold},
    storage::TableVersion,
    types::{Column, DataType, Dialect},
    value::{Row, Value},
};

impl Session {
    /// Runs a statement that defines something.
    pub(super) async fn define(&mut self, statement: &Statement) -> Result<Outcome, SqlError> {
        // Snowflake: DDL commits the open transaction first, and is one by itself.
        if self.is_snowflake() {
            self.commit_now()?;
        }
        match statement {
            Statement::CreateTable(create) => self.create_table(create).await,
            Statement::CreateView(create) => self.create_view(create),
            Statement::CreateIndex(create) => self.create_index(create).await,
            Statement::AlterTable(alter) => self.alter_table(alter).await,
            Statement::Drop { object_type, if_exists, names, .. } => {
                for name in names {
                    self.drop_object(*object_type, *if_exists, name).await?;
                }
                Ok(done(
                    Verb::Drop,
                    self.say(format!(
                        "{} successfully dropped.",
                        names.first().map(ToString::to_string).unwrap_or_default()
                    )),
                ))
            }
            Statement::Comment { .. } => {
                Ok(done(Verb::Other, self.say("Statement executed successfully.".to_owned())))
            }
            Statement::Set(_) => Ok(done(Verb::Set, self.say("Statement executed successfully.".to_owned()))),
            other => Err(unsupported(self.dialect(), other)),
        }
    }

    fn say(&self, message: String) -> String {
        if self.is_snowflake() { message } else { String::new() }
    }

    fn name_of(&self, name: &ast::ObjectName, temporary: bool) -> Result<Name, SqlError> {
        let state = self.db.state();
        let parts = parts(self.dialect(), name)?;
        let mut full = crate::bind::complete(&self.db, &self.identity, self.id, &state, &parts)?;
        if temporary && !full.schema.contains('#') {
            full.schema = format!("{}#{}", full.schema, self.id);
        } else if !temporary && self.is_snowflake() {
            full.schema = full.schema.split('#').next().unwrap_or_default().to_owned();
        }
        Ok(full)
    }

    pub(super) fn check_schema(&self, name: &Name) -> Result<(), SqlError> {
        let state = self.db.state();
        let key = (fold(self.dialect(), &name.database), fold(self.dialect(), &name.schema));
        if name.schema.contains('#') || state.schemas.contains_key(&key) {
            return Ok(());
        }
        Err(match self.dialect() {
            Dialect::SqlServer => SqlError::mssql(
                2760,
                format!(
                    "The specified schema name \"{}\" either does not exist or you do not have permission to use it.",
                    name.schema
                ),
            ),
            Dialect::Snowflake => not_found(Dialect::Snowflake, &state, name, &name.to_string()),
        })
    }

    pub(super) async fn create_table(&mut self, create: &ast::CreateTable) -> Result<Outcome, SqlError> {
        let temporary =
            create.temporary || create.name.to_string().trim_start_matches('[').starts_with(['#', '@']);
        let name = self.name_of(&create.name, temporary)?;
        self.check_schema(&name)?;
        self.writable(&name.database)?;
        let state = self.db.state();
        crate::access::may_create(&self.db, &self.identity, &state, &name, "CREATE TABLE")?;
        let existing = self.db.object(&name);
        if existing.is_some() && !create.or_replace {
            if create.if_not_exists {
                return Ok(done(
                    Verb::Create,
                    self.say(format!("{} already exists, statement succeeded.", name.name)),
                ));
            }
            return Err(match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    2714,
                    format!("There is already an object named '{}' in the database.", name.name),
                )
                .with_state(6),
                Dialect::Snowflake => SqlError::snowflake(
                    2_002,
                    "42710",
                    format!("SQL compilation error:\nObject '{name}' already exists."),
                ),
            });
        }
        let mut rows: Vec<Row> = Vec::new();
        let mut constraints = Constraints::default();
        let (columns, keys) = if let Some(other) = create.clone.as_ref().or(match &create.like {
            Some(ast::CreateTableLikeKind::Plain(like) | ast::CreateTableLikeKind::Parenthesized(like)) => {
                Some(&like.name)
            }
            None => None,
        }) {
            let source = self.table(&state, &parts(self.dialect(), other)?)?;
            if create.clone.is_some()
                && let Some(version) = state.tables.get(&source.id)
            {
                let view = crate::storage::TableView { version: Arc::clone(version), delta: None };
                rows = view.scan().map(|(_, row)| row).collect();
            }
            (source.columns.clone(), source.keys.clone())
        } else if let Some(query) = &create.query {
            let (columns, made) = self.query_rows(query, &create.columns)?;
            rows = made;
            (columns, Vec::new())
        } else {
            let (columns, keys) = self.definitions(&name, &create.columns, &create.constraints)?;
            constraints = self.constraints(&name.name, &columns, &create.columns, &create.constraints)?;
            (columns, keys)
        };
        let owner = self.identity.role.clone();
        let seed = columns.iter().find_map(|def: &ColumnDef| def.identity).map_or(1, |(seed, _)| seed);
        let table = TableDef {
            id: self.db.next_id(),
            name: name.clone(),
            columns,
            keys,
            constraints,
            next_identity: Arc::new(AtomicI64::new(seed)),
            temporary,
            transient: create.transient,
            owner,
            created: now(),
        };
        let id = table.id;
        let dialect = self.dialect();
        let or_replace = create.or_replace;
        // Another session may have made the name meanwhile: one of the two wins.
        let made = self.db.change(|state| {
            let key = table.name.key(dialect);
            if state.objects.contains_key(&key) && !or_replace {
                return false;
            }
            if let Some(old) = state.objects.remove(&key) {
                state.tables.remove(&old.id());
            }
            state.tables.insert(id, Arc::new(TableVersion::from_rows(rows)));
            state.objects.insert(key, Object::Table(Arc::new(table)));
            true
        });
        if !made {
            return Err(match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    2714,
                    format!("There is already an object named '{}' in the database.", name.name),
                )
                .with_state(6),
                Dialect::Snowflake => SqlError::snowflake(
                    2_002,
                    "42710",
                    format!("SQL compilation error:\nObject '{name}' already exists."),
                ),
            });
        }
        if let Some(transaction) = &mut self.transaction {
            transaction.undo.push(Undo::Created(id));
            if let Some(pinned) = &mut transaction.pinned {
                // The transaction sees what it made.
                let latest = self.db.state();
                let next = Arc::make_mut(pinned);
                if let Some(object) = latest.objects.get(&name.key(dialect)) {
                    next.objects.insert(name.key(dialect), object.clone());
                }
                if let Some(version) = latest.tables.get(&id) {
                    next.tables.insert(id, Arc::clone(version));
                }
            }
        }
        if temporary && !name.name.starts_with('@') {
            self.keep_local(id);
        }
        let message = format!("Table {} successfully created.", name.name);
        Ok(done(Verb::Create, self.say(message)))
    }

    /// `SELECT … INTO t`.
    pub(super) async fn select_into(&mut self, query: &ast::Query, into: &str) -> Result<Outcome, SqlError> {
        let mut query = query.clone();
        if let ast::SetExpr::Select(select) = query.body.as_mut() {
            select.into = None;
        }
        let name = crate::script::parse_name(self.dialect(), into)?;
        let temporary = into.trim_start_matches('[').starts_with('#');
        let name = self.name_of(&name, temporary)?;
        self.check_schema(&name)?;
        if self.db.object(&name).is_some() {
            return Err(SqlError::mssql(
                2714,
                format!("There is already an object named '{}' in the database.", name.name),
            )
            .with_state(6));
        }
        let (columns, rows) = self.query_rows(&query, &[])?;
        let count = rows.len() as u64;
        let (dialect, id) = (self.dialect(), self.db.next_id());
        let table = TableDef {
            id,
            name: name.clone(),
            columns,
            keys: Vec::new(),
            constraints: Constraints::default(),
            next_identity: Arc::new(AtomicI64::new(1)),
            temporary,
            transient: false,
            owner: None,
            created: now(),
        };
        self.db.change(|state| {
            state.tables.insert(id, Arc::new(TableVersion::from_rows(rows)));
            state.objects.insert(name.key(dialect), Object::Table(Arc::new(table)));
        });
        if let Some(transaction) = &mut self.transaction {
            transaction.undo.push(Undo::Created(id));
        }
        Ok(Outcome::Count { verb: Verb::Insert, rows: count })
    }

    /// The rows of a query and the columns that hold them.
    fn query_rows(
        &mut self,
        query: &ast::Query,
        declared: &[ast::ColumnDef],
    ) -> Result<(Vec<ColumnDef>, Vec<Row>), SqlError> {
        let state = self.pin()?;
        let deltas = self.deltas();
        let env = self.env(state, &deltas);
        let binder = Binder::new(&env);
        let (plan, shown) = binder.query(query)?;
        let mut columns: Vec<ColumnDef> = Vec::new();
        for (at, column) in shown.iter().filter(|column| !column.hidden).enumerate() {
            let mut ty = column.ty.clone();
            if ty == DataType::Null {
                ty = DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT };
            }
            let mut def = ColumnDef {
                column: Column::new(&column.name, ty, column.nullable),
                default: None,
                identity: None,
                computed: None,
            };
            if let Some(declared) = declared.get(at) {
                def.column.name = binder.ident(&declared.name);
                if declared.data_type != ast::DataType::Unspecified {
                    def.column.ty = binder.data_type(&declared.data_type)?;
                }
            }
            if def.column.name.is_empty() {
                return Err(SqlError::mssql(1038, "An object or column name is missing or empty."));
            }
            columns.push(def);
        }
        let cast = crate::cast::Cast::assign(binder.dialect());
        let mut rows = Vec::new();
        for row in exec::open(&plan, &Frame::default())? {
            let row = row?;
            let values = row
                .iter()
                .zip(&shown)
                .zip(&columns)
                .map(|((value, from), def)| {
                    if from.ty == def.column.ty {
                        Ok(value.clone())
                    } else {
                        cast.apply(value.clone(), &from.ty, &def.column.ty)
                    }
                })
                .collect::<Result<Vec<_>, _>>()?;
            rows.push(Row::from(values));
        }
        Ok((columns, rows))
    }

    fn definitions(
        &self,
        table: &Name,
        columns: &[ast::ColumnDef],
        constraints: &[ast::TableConstraint],
    ) -> Result<(Vec<ColumnDef>, Vec<Unique>), SqlError> {
        let mut out: Vec<ColumnDef> = Vec::new();
        let mut keys = Vec::new();
        let short = table.name.trim_start_matches('#').to_owned();
        let made_up =
            |primary: bool, id: u64| format!("{}__{short}__{id:016X}", if primary { "PK" } else { "UQ" });
        for column in columns {
            let (def, primary, unique) = self.definition(column)?;
            if out.iter().any(|other| {
                fold(self.dialect(), &other.column.name) == fold(self.dialect(), &def.column.name)
            }) {
                return Err(match self.dialect() {
                    Dialect::SqlServer => SqlError::mssql(
                        2705,
                        format!(
                            "Column names in each table must be unique. Column name '{}' in table '{}' is specified more than once.",
                            def.column.name, table.name
                        ),
                    ),
                    Dialect::Snowflake => SqlError::snowflake(
                        2_025,
                        "42S21",
                        format!("SQL compilation error:\nduplicate column name '{}'", def.column.name),
                    ),
                });
            }
            if primary || unique {
                let named = column.options.iter().find_map(|option| match &option.option {
                    ast::ColumnOption::PrimaryKey(_) | ast::ColumnOption::Unique(_) => option.name.as_ref(),
                    _ => None,
                });
                keys.push(Unique {
                    name: named.map_or_else(
                        || made_up(primary, self.db.next_id()),
                        |name| canonical(self.dialect(), name),
                    ),
                    primary,
                    clustered: primary,
                    unique: true,
                    constraint: true,
                    columns: vec![out.len()],
                    descending: vec![false],
                });
            }
            out.push(def);
        }
        if !self.is_snowflake() {
            self.type_computed(&mut out)?;
        }
        for constraint in constraints {
            let (name, primary, columns, clustered) = match constraint {
                ast::TableConstraint::PrimaryKey(key) => {
                    let clustered = !key.to_string().to_uppercase().contains("NONCLUSTERED");
                    (&key.name, true, &key.columns, clustered)
                }
                ast::TableConstraint::Unique(key) => (&key.name, false, &key.columns, false),
                ast::TableConstraint::ForeignKey(_) | ast::TableConstraint::Check(_) => continue,
                other => return Err(unsupported(self.dialect(), other)),
            };
            let mut places = Vec::new();
            let mut descending = Vec::new();
            for column in columns {
                places.push(self.place(&out, &column.column.expr)?);
                descending.push(column.column.options.sort == Some(ast::OrderBySort::Desc));
            }
            if primary {
                for place in &places {
                    out[*place].column.nullable = false;
                }
            }
            let name = name
                .as_ref()
                .map_or_else(|| made_up(primary, self.db.next_id()), |name| canonical(self.dialect(), name));
            keys.push(Unique {
                name,
                primary,
                clustered,
                unique: true,
                constraint: true,
                columns: places,
                descending,
            });
        }
        Ok((out, keys))
    }

    /// `area AS (w * h)`: the column has its expression's type.
    fn type_computed(&self, columns: &mut [ColumnDef]) -> Result<(), SqlError> {
        let scope: Vec<crate::bind::ScopeColumn> = columns
            .iter()
            .map(|def| {
                let Column { name, ty, nullable, .. } = &def.column;
                crate::bind::ScopeColumn::new("", name, ty.clone(), *nullable)
            })
            .collect();
        let deltas = self.deltas();
        let env = self.env(self.db.state(), &deltas);
        let binder = Binder::new(&env);
        let flag = std::cell::Cell::new(false);
        let level = crate::bind::Level::new(&scope, None, &flag);
        for def in columns.iter_mut().filter(|def| def.column.ty == DataType::SqlVariant) {
            if let Some(sql) = &def.computed {
                let typed = binder.expr(&crate::script::parse_expr(self.dialect(), sql)?, &level)?;
                def.column.ty = typed.ty;
                def.column.nullable = true;
            }
        }
        Ok(())
    }

    pub(super) fn place(&self, columns: &[ColumnDef], ast: &ast::Expr) -> Result<usize, SqlError> {
        let ast::Expr::Identifier(ident) = ast else { return Err(unsupported(self.dialect(), ast)) };
        let name = fold(self.dialect(), &canonical(self.dialect(), ident));
        columns.iter().position(|def| fold(self.dialect(), &def.column.name) == name).ok_or_else(
            || match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    1911,
                    format!("Column name '{name}' does not exist in the target table or view."),
                ),
                Dialect::Snowflake => SqlError::snowflake(
                    904,
                    "42000",
                    format!("SQL compilation error:\ninvalid identifier '{name}'"),
                ),
            },
        )
    }

    /// One column; whether it is by itself the primary key, or unique.
    fn definition(&self, column: &ast::ColumnDef) -> Result<(ColumnDef, bool, bool), SqlError> {
        let name = canonical(self.dialect(), &column.name);
        let mut ty = if column.data_type == ast::DataType::Unspecified {
            DataType::Null
        } else {
            crate::bind::types::resolve(
                self.dialect(),
                &column.data_type.to_string(),
                self.db.settings().collation,
            )?
        };
        if self.dialect() == Dialect::SqlServer
            && column.data_type == ast::DataType::Unspecified
            && name.eq_ignore_ascii_case("timestamp")
        {
            ty = DataType::RowVersion;
        }
        let mut def =
            ColumnDef { column: Column::new(name, ty, true), default: None, identity: None, computed: None };
        let (mut primary, mut unique) = (false, false);
        for option in &column.options {
            match &option.option {
                ast::ColumnOption::Null => def.column.nullable = true,
                ast::ColumnOption::NotNull => def.column.nullable = false,
                ast::ColumnOption::Default(expr) => def.default = Some(expr.to_string()),
                ast::ColumnOption::PrimaryKey(_) => {
                    primary = true;
                    def.column.nullable = false;
                }
                ast::ColumnOption::Unique(_) => unique = true,
                ast::ColumnOption::Collation(collation) => {
                    let name = collation.to_string().replace(['[', ']', '"', '\''], "");
                    if !self.is_snowflake() {
                        let collation = Collation::parse(&name)
                            .ok_or_else(|| SqlError::mssql(448, format!("Invalid collation '{name}'.")))?;
                        def.column.ty = crate::bind::expressions::with_collation(&def.column.ty, collation);
                    }
                }
                ast::ColumnOption::Identity(
                    ast::IdentityPropertyKind::Autoincrement(property)
                    | ast::IdentityPropertyKind::Identity(property),
                ) => {
                    let number = |ast: &ast::Expr| -> Result<i64, SqlError> {
                        Ok(crate::bind::operators::exact(&self.evaluate(ast)?.0).trunc() as i64)
                    };
                    let (seed, step) = match &property.parameters {
                        Some(
                            ast::IdentityPropertyFormatKind::FunctionCall(given)
                            | ast::IdentityPropertyFormatKind::StartAndIncrement(given),
                        ) => (number(&given.seed)?, number(&given.increment)?),
                        None => (1, 1),
                    };
                    def.identity = Some((seed, step));
                    def.column.identity = true;
                    if !self.is_snowflake() {
                        def.column.nullable = false;
                    }
                }
                ast::ColumnOption::Generated { generation_expr: Some(expr), .. } => {
                    def.computed = Some(expr.to_string());
                    def.column.computed = true;
                }
                ast::ColumnOption::ForeignKey(_)
                | ast::ColumnOption::Check(_)
                | ast::ColumnOption::Comment(_) => {}
                other => return Err(unsupported(self.dialect(), other)),
            }
        }
        if def.column.ty == DataType::RowVersion {
            def.column.nullable = false;
        }
        Ok((def, primary, unique))
    }

    fn create_view(&mut self, create: &ast::CreateView) -> Result<Outcome, SqlError> {
        let name = self.name_of(&create.name, false)?;
        self.check_schema(&name)?;
        let state = self.db.state();
        crate::access::may_create(&self.db, &self.identity, &state, &name, "CREATE VIEW")?;
        if state.objects.contains_key(&name.key(self.dialect())) && !create.or_replace && !create.or_alter {
            return Err(match self.dialect() {
                Dialect::SqlServer => SqlError::mssql(
                    2714,
                    format!("There is already an object named '{}' in the database.", name.name),
                )
                .with_state(3),
                Dialect::Snowflake => SqlError::snowflake(
                    2_002,
                    "42710",
                    format!("SQL compilation error:\nObject '{name}' already exists."),
                ),
            });
        }
        let deltas = self.deltas();
        let env = self.env(Arc::clone(&state), &deltas);
        Binder::new(&env).query(&create.query)?;
        let view = ViewDef {
            id: self.db.next_id(),
            name: name.clone(),
            columns: create.columns.iter().map(|column| canonical(self.dialect(), &column.name)).collect(),
            sql: create.query.to_string(),
            owner: self.identity.role.clone(),
            created: now(),
        };
        let key = name.key(self.dialect());
        self.db.change(|state| {
            state.objects.insert(key, Object::View(Arc::new(view)));
        });
        Ok(done(Verb::Create, self.say(format!("View {} successfully created.", name.name))))
    }

    async fn create_index(&mut self, create: &ast::CreateIndex) -> Result<Outcome, SqlError> {
        let table = self.table(&self.db.state(), &parts(self.dialect(), &create.table_name)?)?;
        let mut places = Vec::new();
        let mut descending = Vec::new();
        for column in &create.columns {
            places.push(self.place(&table.columns, &column.column.expr)?);
            descending.push(column.column.options.sort == Some(ast::OrderBySort::Desc));
        }
        let name = create
            .name
            .as_ref()
            .map(|name| Ok::<_, SqlError>(parts(self.dialect(), name)?.pop().unwrap_or_default()))
            .transpose()?;
        let index = Unique {
            name: name.unwrap_or_default(),
            primary: false,
            clustered: false,
            unique: create.unique,
            constraint: false,
            columns: places,
            descending,
        };
        self.add_key(&table, index)
    }

    /// Adds a constraint or index, after a look at the rows that are there.
    pub(super) fn add_key(&mut self, table: &Arc<TableDef>, index: Unique) -> Result<Outcome, SqlError> {
        let mut next = copy(table);
        next.keys.push(index);
        let number = next.keys.len() - 1;
        if next.keys[number].unique && !self.is_snowflake() {
            let mut seen = std::collections::HashSet::new();
            let version = self.db.state().tables.get(&table.id).cloned().unwrap_or_default();
            for (_, row) in (crate::storage::TableView { version, delta: None }).scan() {
                if let Some(key) = crate::database::unique_key(self.dialect(), &next, number, &row)
                    && !seen.insert(key)
                {
                    return Err(SqlError::mssql(
                        1505,
                        format!(
                            "The CREATE UNIQUE INDEX statement terminated because a duplicate key was found for the object name '{}.{}' and the index name '{}'.",
                            table.name.schema, table.name.name, next.keys[number].name
                        ),
                    ));
                }
            }
        }
        self.replace(table, next, None);
        Ok(done(Verb::Create, self.say("Statement executed successfully.".to_owned())))
    }

    /// Publishes a changed definition, and rows where they changed with it.
    fn replace(&mut self, old: &Arc<TableDef>, next: TableDef, rows: Option<TableVersion>) {
        let dialect = self.dialect();
        let (id, old_key, key) = (old.id, old.name.key(dialect), next.name.key(dialect));
        let version = self.db.change(|state| {
            state.objects.remove(&old_key);
            state.objects.insert(key, Object::Table(Arc::new(next)));
            let version = state.tables.get(&id).cloned();
            if let Some(rows) = rows {
                state.tables.insert(id, Arc::new(rows));
            }
            version
        });
        if let Some(transaction) = &mut self.transaction {
            transaction.undo.push(Undo::Replaced(Object::Table(Arc::clone(old)), version));
        }
    }

    async fn alter_table(&mut self, alter: &ast::AlterTable) -> Result<Outcome, SqlError> {
        let names = parts(self.dialect(), &alter.name)?;
        let mut table = match self.table(&self.db.state(), &names) {
            Err(_) if alter.if_exists => {
                return Ok(done(Verb::Alter, self.say("Statement executed successfully.".to_owned())));
            }
            other => other?,
        };
        self.owned(&table)?;
        if !self.is_snowflake() {
            self.lock(crate::locks::Resource::Table(table.id), crate::locks::Mode::Exclusive).await?;
        }
        for operation in &alter.operations {
            self.alter_one(&table, operation)?;
            if let Ok(next) = self.table(&self.db.state(), &names) {
                table = next;
            }
        }
        Ok(done(Verb::Alter, self.say("Statement executed successfully.".to_owned())))
    }

    /// Snowflake: who changes a table must own it.
    pub(super) fn owned(&self, table: &Arc<TableDef>) -> Result<(), SqlError> {
        self.writable(&table.name.database)?;
        let privilege = if self.is_snowflake() { "OWNERSHIP" } else { "ALTER" };
        crate::access::authorize(
            &self.db,
            &self.identity,
            &self.db.state(),
            &Object::Table(Arc::clone(table)),
            &[privilege],
        )
    }

    fn alter_one(
        &mut self,
        table: &Arc<TableDef>,
        operation: &ast::AlterTableOperation,
    ) -> Result<(), SqlError> {
        use ast::AlterTableOperation as Op;
        let mut next = copy(table);
        let state = self.db.state();
        let version = state.tables.get(&table.id).cloned().unwrap_or_default();
        match operation {
            Op::AddColumn { column_def, if_not_exists, .. } => {
                let (def, primary, unique) = self.definition(column_def)?;
                let there = table.columns.iter().any(|other| {
                    fold(self.dialect(), &other.column.name) == fold(self.dialect(), &def.column.name)
                });
                if there && *if_not_exists {
                    return Ok(());
                }
                if there || primary || unique {
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            2705,
                            format!(
                                "Column names in each table must be unique. Column name '{}' in table '{}' is specified more than once.",
                                def.column.name, table.name
                            ),
                        ),
                        Dialect::Snowflake => SqlError::snowflake(
                            1_430,
                            "42601",
                            format!("SQL compilation error:\ncolumn '{}' already exists", def.column.name),
                        ),
                    });
                }
                let mut value = match &def.default {
                    Some(sql) => {
                        let (value, from) =
                            self.evaluate(&crate::script::parse_expr(self.dialect(), sql)?)?;
                        self.cast().apply(value, &from, &def.column.ty)?
                    }
                    None => Value::Null,
                };
                if value.is_null() && !def.column.nullable && version.rows > 0 {
                    return Err(match self.dialect() {
                        Dialect::SqlServer => SqlError::mssql(
                            4901,
                            format!(
                                "ALTER TABLE only allows columns to be added that can contain nulls, or have a DEFAULT definition specified; Column '{}' cannot be added to non-empty table '{}'.",
                                def.column.name, table.name.name
                            ),
                        ),
                        Dialect::Snowflake => SqlError::snowflake(
                            2_113,
                            "22000",
                            format!(
                                "SQL compilation error:\nNon-nullable column '{}' cannot be added to non-empty table '{}' unless it has a non-null default value.",
                                def.column.name, table.name.name
                            ),
                        ),
                    });
                }
                // SQL Server fills existing rows only for NOT NULL columns.
                if !self.is_snowflake() && def.column.nullable {
                    value = Value::Null;
                }
                let added = [column_def.clone()];
                next.columns.push(def);
                let more = self.constraints(&table.name.name, &next.columns, &added, &[])?;
                next.constraints.checks.extend(more.checks);
                next.constraints.foreign.extend(more.foreign);
                next.constraints.defaults.extend(more.defaults);
                let rows = version.map(|row| row.iter().cloned().chain([value.clone()]).collect());
                self.replace(table, next, Some(rows));
            }
            Op::DropColumn { column_names, if_exists, .. } => {
                for name in column_names {
                    let at = match self.place(&next.columns, &ast::Expr::Identifier(name.clone())) {
                        Err(_) if *if_exists => continue,
                        other => other?,
                    };
                    if next.keys.iter().any(|key| key.columns.contains(&at)) && !self.is_snowflake() {
                        return Err(SqlError::mssql(
                            4922,
                            format!(
                                "ALTER TABLE DROP COLUMN {name} failed because one or more objects access this column."
                            ),
                        ));
                    }
                    next.keys.retain(|key| !key.columns.contains(&at));
                    for key in &mut next.keys {
                        key.columns.iter_mut().filter(|column| **column > at).for_each(|column| *column -= 1);
                    }
                    next.columns.remove(at);
                    let rows = version.map(|row| {
                        row.iter()
                            .enumerate()
                            .filter(|(place, _)| *place != at)
                            .map(|(_, value)| value.clone())
                            .collect()
                    });
                    self.replace(table, copy(&Arc::new(next)), Some(rows));
                    return Ok(());
                }
            }
            Op::RenameColumn { old_column_name, new_column_name } => {
                let at = self.place(&next.columns, &ast::Expr::Identifier(old_column_name.clone()))?;
                next.columns[at].column.name = canonical(self.dialect(), new_column_name);
                self.replace(table, next, None);
            }
            Op::RenameTable {
                table_name: ast::RenameTableNameKind::As(name) | ast::RenameTableNameKind::To(name),
            } => {
                let full = self.name_of(name, false)?;
                if self.db.object(&full).is_some() {
                    return Err(SqlError::snowflake(
                        2_002,
                        "42710",
                        format!("SQL compilation error:\nObject '{full}' already exists."),
                    ));
                }
                next.name = full;
                self.replace(table, next, None);
            }
            Op::SwapWith { table_name } => {
                let other = self.table(&state, &parts(self.dialect(), table_name)?)?;
                self.owned(&other)?;
                let mut second = copy(&other);
                std::mem::swap(&mut next.name, &mut second.name);
                let dialect = self.dialect();
                self.db.change(|state| {
                    state.objects.insert(next.name.key(dialect), Object::Table(Arc::new(next)));
                    state.objects.insert(second.name.key(dialect), Object::Table(Arc::new(second)));
                });
            }
            Op::AddConstraint { constraint, .. } => {
                let (_, mut keys) = {
                    let mut columns = table.columns.clone();
                    let constraints = [constraint.clone()];
                    let keys = self.constraint_keys(table, &mut columns, &constraints)?;
                    (columns, keys)
                };
                if let Some(key) = keys.pop() {
                    self.add_key(table, key)?;
                } else {
                    let listed = [constraint.clone()];
                    let added = self.constraints(&table.name.name, &table.columns, &[], &listed)?;
                    next.constraints.checks.extend(added.checks);
                    next.constraints.foreign.extend(added.foreign);
                    let next = Arc::new(next);
                    let view = crate::storage::TableView { version, delta: None };
                    let rows = view.scan().map(|(_, row)| row).collect();
                    let all = super::changes::Changes { inserted: rows, ..Default::default() };
                    self.check_rows(&state, &next, &all, |_| "The ALTER TABLE statement".to_owned())?;
                    self.replace(table, copy(&next), None);
                }
            }
            Op::DropConstraint { name, .. } => {
                let dialect = self.dialect();
                let name = fold(dialect, &canonical(dialect, name));
                next.keys.retain(|key| fold(dialect, &key.name) != name);
                next.constraints.checks.retain(|check| fold(dialect, &check.name) != name);
                next.constraints.foreign.retain(|foreign| fold(dialect, &foreign.name) != name);
                if let Some(at) =
                    next.constraints.defaults.iter().position(|(one, _)| fold(dialect, one) == name)
                {
                    let (_, column) = next.constraints.defaults.remove(at);
                    let of =
                        next.columns.iter_mut().find(|def| def.column.name.eq_ignore_ascii_case(&column));
                    if let Some(def) = of {
                        def.default = None;
                    }
                }
                self.replace(table, next, None);
            }
            Op::AlterColumn { column_name, op } => {
                let at = self.place(&next.columns, &ast::Expr::Identifier(column_name.clone()))?;
                let mut rows = None;
                match op {
                    ast::AlterColumnOperation::SetNotNull => next.columns[at].column.nullable = false,
                    ast::AlterColumnOperation::DropNotNull => next.columns[at].column.nullable = true,
                    ast::AlterColumnOperation::SetDefault { value } => {
                        next.columns[at].default = Some(value.to_string());
                    }
                    ast::AlterColumnOperation::DropDefault => next.columns[at].default = None,
                    ast::AlterColumnOperation::SetDataType { data_type, .. } => {
                        let from = next.columns[at].column.ty.clone();
                        let to = crate::bind::types::resolve(
                            self.dialect(),
                            &data_type.to_string(),
                            self.db.settings().collation,
                        )?;
                        let cast = crate::cast::Cast::assign(self.dialect());
                        let view = crate::storage::TableView { version: Arc::clone(&version), delta: None };
                        for (_, row) in view.scan() {
                            cast.apply(row[at].clone(), &from, &to)?;
                        }
                        rows = Some(version.map(|row| {
                            row.iter()
                                .enumerate()
                                .map(|(place, value)| {
                                    if place == at {
                                        cast.apply(value.clone(), &from, &to).unwrap_or(Value::Null)
                                    } else {
                                        value.clone()
                                    }
                                })
                                .collect()
                        }));
                        next.columns[at].column.ty = to;
                    }
                    other => return Err(unsupported(self.dialect(), other)),
                }
                self.replace(table, next, rows);
            }
            Op::ClusterBy { .. } | Op::DropClusteringKey | Op::SuspendRecluster | Op::ResumeRecluster => {}
            other => return Err(unsupported(self.dialect(), other)),
        }
        Ok(())
    }

    fn constraint_keys(
        &self,
        table: &TableDef,
        columns: &mut [ColumnDef],
        constraints: &[ast::TableConstraint],
    ) -> Result<Vec<Unique>, SqlError> {
        let mut keys = Vec::new();
        for constraint in constraints {
            let (name, primary, listed) = match constraint {
                ast::TableConstraint::PrimaryKey(key) => (&key.name, true, &key.columns),
                ast::TableConstraint::Unique(key) => (&key.name, false, &key.columns),
                _ => continue,
            };
            let places = listed
                .iter()
                .map(|column| self.place(columns, &column.column.expr))
                .collect::<Result<Vec<_>, _>>()?;
            let name = name.as_ref().map_or_else(
                || {
                    format!(
                        "{}__{}__{:016X}",
                        if primary { "PK" } else { "UQ" },
                        table.name.name,
                        self.db.next_id()
                    )
                },
                |name| canonical(self.dialect(), name),
            );
            let descending = vec![false; places.len()];
            keys.push(Unique {
                name,
                primary,
                clustered: primary,
                unique: true,
                constraint: true,
                columns: places,
                descending,
            });
        }
        Ok(keys)
    }

    async fn drop_object(
        &mut self,
        kind: ast::ObjectType,
        if_exists: bool,
        name: &ast::ObjectName,
    ) -> Result<(), SqlError> {
        let names = parts(self.dialect(), name)?;
        let state = self.db.state();
        let full = crate::bind::complete(&self.db, &self.identity, self.id, &state, &names)?;
        let dialect = self.dialect();
        match kind {
            ast::ObjectType::Table | ast::ObjectType::View => {
                let Some(object) = state.objects.get(&full.key(dialect)).cloned() else {
                    if if_exists {
                        return Ok(());
                    }
                    return Err(match dialect {
                        Dialect::SqlServer => SqlError::mssql(
                            3701,
                            format!("Cannot drop the {} '{name}', because it does not exist or you do not have permission.", kind.to_string().to_lowercase()),
                        )
                        .with_class(11)
                        .with_state(5),
                        Dialect::Snowflake => {
                            let what = if kind == ast::ObjectType::View { "View" } else { "Table" };
                            SqlError::snowflake(2_003, "02000", format!("SQL compilation error:\n{what} '{full}' does not exist or not authorized."))
                        }
                    });
                };
                if let Object::Table(table) = &object {
                    if !self.is_snowflake() {
                        self.check_referenced(&state, table, &name.to_string())?;
                    }
                    self.owned(table)?;
                    if !self.is_snowflake() {
                        self.lock(crate::locks::Resource::Table(table.id), crate::locks::Mode::Exclusive)
                            .await?;
                    }
                }
                let id = object.id();
                let version = self.db.change(|state| {
                    state.objects.remove(&full.key(dialect));
                    state.tables.remove(&id)
                });
                if let Some(transaction) = &mut self.transaction {
                    transaction.deltas.remove(&id);
                    transaction.undo.push(Undo::Replaced(object, version));
                }
                Ok(())
            }
            other => Err(unsupported(dialect, format!("DROP {other}"))),
        }
    }
}

fn copy(table: &Arc<TableDef>) -> TableDef {
    TableDef {
        id: table.id,
        name: table.name.clone(),
        columns: table.columns.clone(),
        keys: table.keys.clone(),
        constraints: table.constraints.clone(),
        next_identity: Arc::clone(&table.next_identity),
        temporary: table.temporary,
        transient: table.transient,
        owner: table.owner.clone(),
        created: table.created,
    }
}
