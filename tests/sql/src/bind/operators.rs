//! Operators: the types of their results, and what they compute.

use std::sync::Arc;

use crate::{
    bind::{
        Binder,
        types::{Family, common, family},
    },
    cast::{Cast, numbers::int_range},
    decimal::{Decimal, Rounding},
    error::SqlError,
    expr::{Comparison, Expr, Function, Typed},
    keys::Order,
    text::Text,
    types::{DataType, Dialect, Length},
    value::{DAY_NS, Value},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

pub(crate) fn division_by_zero(dialect: Dialect) -> SqlError {
    match dialect {
        Dialect::SqlServer => SqlError::mssql(8134, "Divide by zero error encountered."),
        Dialect::Snowflake => SqlError::snowflake(100_051, "22012", "Division by zero"),
    }
}

fn arithmetic_overflow(dialect: Dialect, ty: &DataType) -> SqlError {
    match dialect {
        Dialect::SqlServer => {
            let name = if matches!(ty, DataType::Decimal { .. }) { "numeric" } else { ty.name() };
            SqlError::mssql(
                8115,
                format!("Arithmetic overflow error converting expression to data type {name}."),
            )
            .with_state(2)
        }
        Dialect::Snowflake => SqlError::snowflake(
            100_046,
            "22003",
            format!("Number out of representable range: type FIXED{}", ty.to_string().replace("NUMBER", "")),
        ),
    }
}

/// Precision and scale of an exact result.
pub(crate) fn decimal_result(
    dialect: Dialect,
    op: Arithmetic,
    (p1, s1): (u8, u8),
    (p2, s2): (u8, u8),
) -> (u8, u8) {
    let (p1, s1, p2, s2) = (i32::from(p1), i32::from(s1), i32::from(p2), i32::from(s2));
    let (whole1, whole2) = (p1 - s1, p2 - s2);
    if dialect == Dialect::Snowflake {
        let (whole, scale) = match op {
            Arithmetic::Add | Arithmetic::Subtract => (whole1.max(whole2) + 1, s1.max(s2)),
            Arithmetic::Multiply => (whole1 + whole2, (s1 + s2).min(s1.max(s2).max(12))),
            Arithmetic::Divide => (whole1 + s2, s1.max((s1 + 6).min(12))),
            Arithmetic::Modulo => (whole1.max(whole2), s1.max(s2)),
        };
        return ((whole + scale).clamp(1, 38) as u8, scale.min(37) as u8);
    }
    let (precision, scale) = match op {
        Arithmetic::Add | Arithmetic::Subtract => (s1.max(s2) + whole1.max(whole2) + 1, s1.max(s2)),
        Arithmetic::Multiply => (p1 + p2 + 1, s1 + s2),
        Arithmetic::Divide => {
            let scale = 6.max(s1 + p2 + 1);
            (whole1 + s2 + scale, scale)
        }
        Arithmetic::Modulo => (whole1.min(whole2) + s1.max(s2), s1.max(s2)),
    };
    if precision <= 38 {
        return (precision.max(1) as u8, scale as u8);
    }
    let whole = precision - scale;
    let scale = match op {
        // The whole part keeps its room, the scale gives way.
        Arithmetic::Add | Arithmetic::Subtract | Arithmetic::Modulo => {
            scale.min(38 - whole1.max(whole2).min(38))
        }
        _ if whole < 32 => scale.min(38 - whole),
        _ => scale.min(6),
    };
    (38, scale.max(0) as u8)
}

impl Binder<'_> {
    /// Brings an expression to a type; constants at once.
    pub(crate) fn cast(&self, typed: Typed, to: &DataType) -> Result<Typed, SqlError> {
        self.cast_with(typed, to, Cast::explicit(self.dialect()))
    }

    pub(crate) fn cast_with(&self, typed: Typed, to: &DataType, cast: Cast) -> Result<Typed, SqlError> {
        let Typed { expr, ty: from, nullable } = typed;
        if from == *to && cast.style == 0 {
            return Ok(Typed { expr, ty: from, nullable });
        }
        if let Expr::Const(value) = &expr {
            // A failing constant fails when it is run, not when it is bound: CASE and TRY_CAST guard it.
            if let Ok(value) = cast.apply(value.clone(), &from, to) {
                return Ok(Typed { expr: Expr::Const(value), ty: to.clone(), nullable });
            }
        }
        let target = to.clone();
        let function: Function =
            Arc::new(move |values: &[Value]| cast.apply(values[0].clone(), &from, &target));
        Ok(Typed { expr: Expr::Strict(function, vec![expr]), ty: to.clone(), nullable })
    }

    /// A comparison, its sides brought to one kind.
    pub(crate) fn compare(&self, comparison: Comparison, a: Typed, b: Typed) -> Result<Typed, SqlError> {
        let (a, b, order) = self.comparable(a, b)?;
        let nullable = a.nullable || b.nullable;
        Ok(Typed::new(Expr::Compare(comparison, order, Box::new((a.expr, b.expr))), self.boolean(), nullable))
    }

    /// Brings two expressions to one kind, and says how their text compares.
    pub(crate) fn comparable(&self, a: Typed, b: Typed) -> Result<(Typed, Typed, Order), SqlError> {
        let target = common(self.dialect(), &a.ty, &b.ty);
        let order = match (self.dialect(), a.ty.collation(), b.ty.collation()) {
            (Dialect::Snowflake, ..) => Order::Bytes,
            // A column's collation goes before a literal's.
            (_, Some(collation), Some(other)) => {
                Order::Collated(if matches!(a.expr, Expr::Const(_)) { other } else { collation })
            }
            (_, Some(collation), None) | (_, None, Some(collation)) => Order::Collated(collation),
            _ => Order::of(self.dialect(), &target),
        };
        let (fa, fb) = (family(&a.ty), family(&b.ty));
        if fa == Family::Null || fb == Family::Null || (fa == fb && fa != Family::Other) {
            return Ok((a, b, order));
        }
        let target = if a.ty.is_semi_structured() {
            b.ty.clone()
        } else if b.ty.is_semi_structured() {
            a.ty.clone()
        } else {
            target
        };
        Ok((self.cast(a, &target)?, self.cast(b, &target)?, order))
    }

    pub(crate) fn boolean(&self) -> DataType {
        if self.is_snowflake() { DataType::Boolean } else { DataType::Bit }
    }

    pub(crate) fn strict(
        &self,
        arguments: Vec<Typed>,
        ty: DataType,
        function: impl Fn(&[Value]) -> Result<Value, SqlError> + Send + Sync + 'static,
    ) -> Typed {
        let nullable = arguments.iter().any(|argument| argument.nullable);
        let all_known = arguments.iter().all(|argument| argument.known().is_some());
        let exprs: Vec<Expr> = arguments.into_iter().map(|argument| argument.expr).collect();
        let expr = Expr::Strict(Arc::new(function), exprs);
        if all_known && let Ok(value) = expr.eval(&[], &crate::expr::Frame::default()) {
            return Typed { nullable: value.is_null(), expr: Expr::Const(value), ty };
        }
        Typed { expr, ty, nullable }
    }

    pub(crate) fn arithmetic(&self, op: Arithmetic, mut a: Typed, mut b: Typed) -> Result<Typed, SqlError> {
        let dialect = self.dialect();
        if op == Arithmetic::Add
            && dialect == Dialect::SqlServer
            && (a.ty.is_text() || a.ty.is_binary() || a.ty == DataType::Null)
            && (b.ty.is_text() || b.ty.is_binary() || b.ty == DataType::Null)
            && (a.ty != DataType::Null || b.ty != DataType::Null)
        {
            return self.concat(a, b);
        }
        if a.ty.is_temporal() || b.ty.is_temporal() {
            return self.date_arithmetic(op, a, b);
        }
        for side in [&mut a, &mut b] {
            let wanted = match &side.ty {
                DataType::Null if dialect == Dialect::Snowflake => {
                    DataType::Number { precision: 38, scale: 0 }
                }
                DataType::Null => DataType::Int,
                ty if ty.is_semi_structured() => DataType::Double,
                ty if ty.is_text() && dialect == Dialect::Snowflake => {
                    DataType::Number { precision: 18, scale: 5 }
                }
                DataType::Bit => DataType::Int,
                _ => continue,
            };
            let taken = std::mem::replace(side, Typed::constant(Value::Null, DataType::Null));
            *side = self.cast(taken, &wanted)?;
        }
        // SQL Server: text and binary beside a number become that number's type.
        if a.ty.is_text() || a.ty.is_binary() {
            let target = b.ty.clone();
            a = self.cast(a, &target)?;
        }
        if b.ty.is_text() || b.ty.is_binary() {
            let target = a.ty.clone();
            b = self.cast(b, &target)?;
        }
        if !a.ty.is_number() || !b.ty.is_number() {
            return Err(self.operand_clash(op, &a.ty, &b.ty));
        }
        if a.ty.is_float() || b.ty.is_float() {
            return self.float_arithmetic(op, a, b);
        }
        if a.ty.is_integer() && b.ty.is_integer() {
            return Ok(self.integer_arithmetic(op, a, b));
        }
        let money = |ty: &DataType| matches!(ty, DataType::Money | DataType::SmallMoney);
        if (money(&a.ty) && (money(&b.ty) || b.ty.is_integer())) || (money(&b.ty) && a.ty.is_integer()) {
            return Ok(self.exact_arithmetic(op, a, b, DataType::Money));
        }
        let precision = |side: &Typed| match (side.known(), &side.ty) {
            // An integer literal counts its own digits.
            (Some(Value::Int(value)), _) => (value.unsigned_abs().to_string().len() as u8, 0),
            _ => side.ty.precision_scale().unwrap_or((38, 0)),
        };
        let (precision, scale) = decimal_result(dialect, op, precision(&a), precision(&b));
        let ty = match dialect {
            Dialect::SqlServer => DataType::Decimal { precision, scale },
            Dialect::Snowflake => DataType::Number { precision, scale },
        };
        Ok(self.exact_arithmetic(op, a, b, ty))
    }

    fn exact_arithmetic(&self, op: Arithmetic, a: Typed, b: Typed, ty: DataType) -> Typed {
        let dialect = self.dialect();
        let (mut precision, scale) = ty.precision_scale().unwrap_or((38, 0));
        if dialect == Dialect::Snowflake {
            precision = 38;
        }
        let error = arithmetic_overflow(dialect, &ty);
        let money = ty == DataType::Money;
        let division = if dialect == Dialect::SqlServer { Rounding::Truncate } else { Rounding::HalfUp };
        self.strict(vec![a, b], ty, move |values| {
            let (a, b) = (exact(&values[0]), exact(&values[1]));
            if b.unscaled == 0 && matches!(op, Arithmetic::Divide | Arithmetic::Modulo) {
                return Err(division_by_zero(dialect));
            }
            let result = match op {
                Arithmetic::Add => a.add(b, scale),
                Arithmetic::Subtract => a.sub(b, scale),
                Arithmetic::Multiply => a.mul(b, scale, Rounding::HalfUp),
                Arithmetic::Divide => a.div(b, scale, division),
                Arithmetic::Modulo => a.rem(b).and_then(|rest| rest.rescale(scale, Rounding::HalfUp)),
            };
            result
                .filter(|value| value.fits(precision) && (!money || i64::try_from(value.unscaled).is_ok()))
                .map(Value::Decimal)
                .ok_or_else(|| error.clone())
        })
    }

    fn integer_arithmetic(&self, op: Arithmetic, a: Typed, b: Typed) -> Typed {
        let ty = common(Dialect::SqlServer, &a.ty, &b.ty);
        let (low, high) = int_range(&ty);
        let error = arithmetic_overflow(Dialect::SqlServer, &ty);
        self.strict(vec![a, b], ty, move |values| {
            let (Value::Int(a), Value::Int(b)) = (&values[0], &values[1]) else { return Ok(Value::Null) };
            if *b == 0 && matches!(op, Arithmetic::Divide | Arithmetic::Modulo) {
                return Err(division_by_zero(Dialect::SqlServer));
            }
            let result = match op {
                Arithmetic::Add => a.checked_add(*b),
                Arithmetic::Subtract => a.checked_sub(*b),
                Arithmetic::Multiply => a.checked_mul(*b),
                Arithmetic::Divide => a.checked_div(*b),
                Arithmetic::Modulo => Some(a.wrapping_rem(*b)),
            };
            result.filter(|value| (low..=high).contains(value)).map(Value::Int).ok_or_else(|| error.clone())
        })
    }

    fn float_arithmetic(&self, op: Arithmetic, a: Typed, b: Typed) -> Result<Typed, SqlError> {
        let dialect = self.dialect();
        let ty = match dialect {
            Dialect::Snowflake => DataType::Double,
            Dialect::SqlServer if a.ty == DataType::Real && !matches!(b.ty, DataType::Float) => {
                DataType::Real
            }
            Dialect::SqlServer if b.ty == DataType::Real && !matches!(a.ty, DataType::Float) => {
                DataType::Real
            }
            Dialect::SqlServer => DataType::Float,
        };
        let wide = if dialect == Dialect::Snowflake { DataType::Double } else { DataType::Float };
        let (a, b) = (self.cast(a, &wide)?, self.cast(b, &wide)?);
        let real = ty == DataType::Real;
        let error = arithmetic_overflow(dialect, &ty);
        Ok(self.strict(vec![a, b], ty, move |values| {
            let (Value::Float(a), Value::Float(b)) = (&values[0], &values[1]) else { return Ok(Value::Null) };
            if *b == 0.0 && matches!(op, Arithmetic::Divide | Arithmetic::Modulo) {
                return Err(division_by_zero(dialect));
            }
            let result = match op {
                Arithmetic::Add => a + b,
                Arithmetic::Subtract => a - b,
                Arithmetic::Multiply => a * b,
                Arithmetic::Divide => a / b,
                Arithmetic::Modulo => a % b,
            };
            if dialect == Dialect::SqlServer && !result.is_finite() {
                return Err(error.clone());
            }
            Ok(if real { Value::Real(result as f32) } else { Value::Float(result) })
        }))
    }

    /// `+` of SQL Server's text and binary, `||` of Snowflake.
    pub(crate) fn concat(&self, a: Typed, b: Typed) -> Result<Typed, SqlError> {
        if (a.ty.is_binary() && (b.ty.is_binary() || b.ty == DataType::Null))
            || (b.ty.is_binary() && a.ty == DataType::Null)
        {
            let ty = if self.is_snowflake() {
                DataType::Bytes { length: DataType::SNOWFLAKE_DEFAULT_BYTES }
            } else {
                DataType::VarBinary { length: Length::Max }
            };
            return Ok(self.strict(vec![a, b], ty, |values| {
                let (Value::Bytes(a), Value::Bytes(b)) = (&values[0], &values[1]) else {
                    return Ok(Value::Null);
                };
                Ok(Value::bytes([a.as_ref(), b.as_ref()].concat()))
            }));
        }
        let ty = self.concat_type(&a.ty, &b.ty);
        let text = self.wide_text();
        let a = if a.ty.is_text() { a } else { self.cast(a, &text)? };
        let b = if b.ty.is_text() { b } else { self.cast(b, &text)? };
        Ok(self.strict(vec![a, b], ty, |values| {
            let (Value::Text(a), Value::Text(b)) = (&values[0], &values[1]) else { return Ok(Value::Null) };
            Ok(Value::Text(join_texts(a, b)))
        }))
    }

    fn concat_type(&self, a: &DataType, b: &DataType) -> DataType {
        if self.is_snowflake() {
            return DataType::String { length: DataType::SNOWFLAKE_DEFAULT_TEXT };
        }
        let collation = a.collation().or(b.collation()).unwrap_or_default();
        let units = |ty: &DataType| match ty {
            DataType::Char { length, .. } | DataType::NChar { length, .. } => Some(u32::from(*length)),
            DataType::VarChar { length: Length::Fixed(length), .. }
            | DataType::NVarChar { length: Length::Fixed(length), .. } => Some(u32::from(*length)),
            DataType::Null => Some(1),
            ty if ty.is_text() => None,
            _ => Some(40),
        };
        let national =
            matches!(a, DataType::NChar { .. } | DataType::NVarChar { .. } | DataType::NText { .. })
                || matches!(b, DataType::NChar { .. } | DataType::NVarChar { .. } | DataType::NText { .. });
        let limit = if national { 4000 } else { 8000 };
        let length = match (units(a), units(b)) {
            (Some(a), Some(b)) => Length::Fixed((a + b).min(limit) as u16),
            _ => Length::Max,
        };
        if national {
            DataType::NVarChar { length, collation }
        } else {
            DataType::VarChar { length, collation }
        }
    }

    /// The widest text of the dialect.
    pub(crate) fn wide_text(&self) -> DataType {
        if self.is_snowflake() {
            DataType::String { length: DataType::SNOWFLAKE_TEXT }
        } else {
            DataType::NVarChar { length: Length::Max, collation: self.env.db.settings().collation }
        }
    }

    fn date_arithmetic(&self, op: Arithmetic, a: Typed, b: Typed) -> Result<Typed, SqlError> {
        let clash = |binder: &Self| binder.operand_clash(op, &a.ty, &b.ty);
        if self.is_snowflake()
            && op == Arithmetic::Subtract
            && a.ty == DataType::Date
            && b.ty == DataType::Date
        {
            let ty = DataType::Number { precision: 9, scale: 0 };
            return Ok(self.strict(vec![a, b], ty, |values| {
                let (Value::Date(a), Value::Date(b)) = (&values[0], &values[1]) else {
                    return Ok(Value::Null);
                };
                Ok(Value::number(i128::from(a - b)))
            }));
        }
        let (moment, amount, negative) = match op {
            Arithmetic::Add if a.ty.is_temporal() && b.ty.is_number() => (a, b, false),
            Arithmetic::Add if b.ty.is_temporal() && a.ty.is_number() => (b, a, false),
            Arithmetic::Subtract if a.ty.is_temporal() && b.ty.is_number() => (a, b, true),
            _ => return Err(clash(self)),
        };
        let allowed = if self.is_snowflake() {
            moment.ty == DataType::Date
        } else {
            matches!(moment.ty, DataType::DateTime | DataType::SmallDateTime)
        };
        if !allowed {
            return Err(self.operand_clash(op, &moment.ty, &amount.ty));
        }
        let ty = moment.ty.clone();
        let wide = if self.is_snowflake() { DataType::Double } else { DataType::Float };
        let amount = self.cast(amount, &wide)?;
        let dialect = self.dialect();
        Ok(self.strict(vec![moment, amount], ty, move |values| {
            let Value::Float(amount) = values[1] else { return Ok(Value::Null) };
            let amount = if negative { -amount } else { amount };
            let moved = match &values[0] {
                Value::Date(days) => {
                    let days = i64::from(*days) + amount as i64;
                    i32::try_from(days)
                        .ok()
                        .filter(|days| (0..=crate::calendar::MAX_DAY).contains(days))
                        .map(Value::Date)
                }
                Value::DateTime { days, ns } => {
                    let whole = amount.floor();
                    let total = *ns as i64 + ((amount - whole) * DAY_NS as f64) as i64;
                    let days = i64::from(*days) + whole as i64 + total.div_euclid(DAY_NS as i64);
                    i32::try_from(days)
                        .ok()
                        .filter(|days| (0..=crate::calendar::MAX_DAY).contains(days))
                        .map(|days| Value::DateTime { days, ns: total.rem_euclid(DAY_NS as i64) as u64 })
                }
                _ => None,
            };
            moved.ok_or_else(|| match dialect {
                Dialect::SqlServer => {
                    SqlError::mssql(517, "Adding a value to a 'datetime' column caused an overflow.")
                }
                Dialect::Snowflake => SqlError::snowflake(100_040, "22007", "Date is out of range"),
            })
        }))
    }

    pub(crate) fn operand_clash(&self, op: Arithmetic, a: &DataType, b: &DataType) -> SqlError {
        match self.dialect() {
            Dialect::SqlServer => SqlError::mssql(
                8117,
                format!(
                    "Operand data type {} is invalid for {} operator.",
                    if a.is_number() { b.name() } else { a.name() },
                    format!("{op:?}").to_lowercase()
                ),
            ),
            Dialect::Snowflake => SqlError::snowflake(
                1_065,
                "22023",
                format!("SQL compilation error:\nInvalid argument types for function '{op:?}': ({a}, {b})"),
            ),
        }
    }
}

pub(crate) fn exact(value: &Value) -> Decimal {
    match value {
        Value::Int(value) => Decimal::new(i128::from(*value), 0),
        Value::Bool(value) => Decimal::new(i128::from(*value), 0),
        Value::Decimal(value) => *value,
        _ => Decimal::new(0, 0),
    }
}

pub(crate) fn join_texts(a: &Text, b: &Text) -> Text {
    if let (Some(a), Some(b)) = (a.as_str(), b.as_str()) {
        Text::from([a, b].concat())
    } else {
        let mut units = a.utf16();
        units.extend(b.utf16());
        Text::from_utf16(&units)
    }
}
