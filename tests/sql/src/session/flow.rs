//! The order in which a batch's steps run: loops, jumps, TRY and CATCH, and what an error ends.

use std::{future::Future, pin::Pin, time::Duration};

use sqlparser::ast::Expr as Ast;

use crate::{
    error::{Effect, SqlError},
    outcome::{Outcome, Rows},
    script::{Line, Step},
    session::{
        Answers, Session,
        steps::{shown, whole},
    },
    types::Dialect,
    value::{DAY_NS, Value},
};

/// Where a batch goes after a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Flow {
    Next,
    Break,
    Continue,
    /// RETURN, with its code.
    Return(i32),
    Goto(String),
    /// An error is on its way to a CATCH.
    Throw,
    /// The batch ends here.
    Stop,
}

/// An error on its way to a CATCH.
#[derive(Debug)]
pub(super) struct Raised {
    pub error: SqlError,
    /// The nesting level of the text in which it was found.
    level: u32,
}

/// Errors that SQL Server finds when it compiles a statement: a TRY around it in the same text does not catch them.
const COMPILED: &[i32] = &[102, 105, 137, 156, 170, 195, 205, 207, 208, 209, 213, 4104, 8120, 8155, 8156];
/// Failed conversions end the batch and roll its transaction back.
const CONVERSIONS: &[i32] = &[235, 241, 242, 245, 248, 295, 8114];

/// What an error of a statement does besides ending it.
pub(super) fn weigh(error: SqlError, abort_on_error: bool) -> SqlError {
    let fatal = CONVERSIONS.contains(&error.number) || (abort_on_error && error.class >= 11);
    if fatal { error.ending(Effect::Transaction) } else { error }
}

impl Session {
    /// Runs steps in order.
    pub(super) fn run_lines<'a>(
        &'a mut self,
        lines: &'a [Line],
        out: &'a mut Answers,
        last: bool,
    ) -> Pin<Box<dyn Future<Output = Flow> + Send + 'a>> {
        Box::pin(async move {
            let mut at = 0;
            while at < lines.len() {
                let lazy = last && at + 1 == lines.len();
                match self.run_line(&lines[at], out, lazy).await {
                    Flow::Next => at += 1,
                    Flow::Goto(label) => {
                        let place = lines
                            .iter()
                            .position(|line| matches!(&line.step, Step::Label(name) if *name == label));
                        let Some(place) = place else { return Flow::Goto(label) };
                        // A jump backwards may be a loop without an end: a cancellation must be heard.
                        tokio::task::yield_now().await;
                        at = place + 1;
                    }
                    other => return other,
                }
            }
            Flow::Next
        })
    }

    async fn run_line(&mut self, line: &Line, out: &mut Answers, lazy: bool) -> Flow {
        let before = out.len();
        let result = self.run_step(&line.step, out, lazy).await;
        let compound = matches!(
            line.step,
            Step::If { .. }
                | Step::While { .. }
                | Step::Block(_)
                | Step::Try { .. }
                | Step::Execute { .. }
                | Step::ExecuteText(_)
        );
        match result {
            Ok(flow) if compound => flow,
            Ok(flow) => {
                self.error = 0;
                if lazy {
                    self.tell_line(line.number, &mut out[before..]);
                    return flow;
                }
                match self.drain(&mut out[before..]) {
                    None => flow,
                    Some(error) => {
                        let error = self.settle(error);
                        self.fail(error, line.number, out, true)
                    }
                }
            }
            Err(error) => self.fail(error, line.number, out, false),
        }
    }

    /// Rows that are still to be computed tell the line of the statement when they fail.
    fn tell_line(&self, number: u32, outcomes: &mut [Result<Outcome, SqlError>]) {
        if self.is_snowflake() {
            return;
        }
        let abort = self.options.abort_on_error;
        for outcome in outcomes {
            if let Ok(Outcome::Rows(set)) = outcome {
                let rows = std::mem::replace(&mut set.rows, Rows::from_vec(Vec::new()));
                set.rows =
                    Rows::new(rows.map(move |row| row.map_err(|error| weigh(error.at_line(number), abort))));
            }
        }
    }

    /// Computes rows now. What came before an error stays.
    fn drain(&mut self, outcomes: &mut [Result<Outcome, SqlError>]) -> Option<SqlError> {
        let mut failed = None;
        for outcome in outcomes {
            if let Ok(Outcome::Rows(set)) = outcome {
                let rows = std::mem::replace(&mut set.rows, Rows::from_vec(Vec::new()));
                let mut kept = Vec::new();
                for row in rows {
                    match row {
                        Ok(row) => kept.push(row),
                        Err(error) => {
                            failed = Some(error);
                            break;
                        }
                    }
                }
                set.rows = Rows::from_vec(kept);
            }
        }
        failed
    }

    /// Sends an error to a CATCH, or to the client; `rows`: the last answer's rows end with it.
    fn fail(&mut self, error: SqlError, line: u32, out: &mut Answers, rows: bool) -> Flow {
        let mut error = error.at_line(line);
        if error.procedure.is_empty()
            && let Some(name) = &self.procedure
        {
            error.procedure.clone_from(name);
        }
        self.error = i64::from(error.number);
        let compiled = COMPILED.contains(&error.number);
        let level = self.level;
        let catchable = error.class < 20 && self.tries.iter().any(|at| !compiled || *at < level);
        if catchable {
            self.raised = Some(Raised { error, level });
            return Flow::Throw;
        }
        let flow = if error.effect == Effect::Statement { Flow::Next } else { Flow::Stop };
        if rows && let Some(Ok(Outcome::Rows(set))) = out.last_mut() {
            let kept = std::mem::replace(&mut set.rows, Rows::from_vec(Vec::new()));
            set.rows = Rows::new(kept.chain(std::iter::once(Err(error))));
        } else {
            out.push(Err(error));
        }
        flow
    }

    pub(super) async fn run_try(&mut self, body: &[Line], handler: &[Line], out: &mut Answers) -> Flow {
        let level = self.level;
        self.tries.push(level);
        let flow = self.run_lines(body, out, false).await;
        self.tries.pop();
        if flow != Flow::Throw {
            return flow;
        }
        let Some(raised) = self.raised.take() else { return Flow::Next };
        if raised.level == level && COMPILED.contains(&raised.error.number) {
            self.raised = Some(raised);
            return Flow::Throw;
        }
        self.caught.push(raised.error);
        let flow = self.run_lines(handler, out, false).await;
        self.caught.pop();
        flow
    }

    pub(super) async fn run_while(
        &mut self,
        condition: &Ast,
        body: &Line,
        out: &mut Answers,
    ) -> Result<Flow, SqlError> {
        while self.holds(condition)? {
            match self.run_lines(std::slice::from_ref(body), out, false).await {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
                other => return Ok(other),
            }
            // A loop without an end: a cancellation must be heard.
            tokio::task::yield_now().await;
        }
        Ok(Flow::Next)
    }

    pub(super) async fn wait_for(&self, until: bool, when: &Ast) -> Result<(), SqlError> {
        let (value, _) = self.evaluate(when)?;
        let text = shown(&value);
        let bad = || {
            SqlError::mssql(148, format!("Incorrect time syntax in time string '{text}' used with WAITFOR."))
                .with_class(15)
                .ending(Effect::Batch)
        };
        let ns = match value {
            Value::DateTime { ns, .. } | Value::Time(ns) => ns,
            _ => clock(&text).ok_or_else(bad)?,
        };
        let wait = if until {
            let (_, now) = crate::database::now();
            (ns + DAY_NS - now % DAY_NS) % DAY_NS
        } else {
            ns
        };
        tokio::time::sleep(Duration::from_nanos(wait)).await;
        Ok(())
    }

    /// RAISERROR: a message, or an error that does not end the batch.
    pub(super) fn raise(&mut self, list: &[Ast], out: &mut Answers) -> Result<(), SqlError> {
        let values = list
            .iter()
            .map(|ast| self.evaluate(ast).map(|(value, _)| value))
            .collect::<Result<Vec<_>, _>>()?;
        let (number, template) = match values.first() {
            Some(Value::Text(text)) => (50_000, text.lossy().into_owned()),
            Some(number) => (whole(number) as i32, format!("Error {}", whole(number))),
            None => (50_000, String::new()),
        };
        let message = formatted(&template, values.get(3..).unwrap_or_default());
        let class = values.get(1).map_or(16, whole).clamp(0, 25) as u8;
        let state = values.get(2).map_or(1, whole).clamp(0, 255) as u8;
        if class <= 10 {
            out.push(Ok(Outcome::Info { number, class, state, message }));
            return Ok(());
        }
        Err(SqlError::mssql(number, message).with_class(class).with_state(state))
    }

    /// The error that THROW sends.
    pub(super) fn throw(&mut self, list: &[Ast]) -> Result<SqlError, SqlError> {
        if list.is_empty() {
            let Some(caught) = self.caught.last() else {
                return Err(SqlError::mssql(
                    10_704,
                    "To rethrow an error, a THROW statement must be used inside a CATCH block. Insert the THROW statement inside a CATCH block, or add error parameters to the THROW statement.",
                )
                .with_class(15)
                .ending(Effect::Batch));
            };
            let error = caught.clone();
            return Ok(self.settle(error.ending(Effect::Batch)));
        }
        let values = list
            .iter()
            .map(|ast| self.evaluate(ast).map(|(value, _)| value))
            .collect::<Result<Vec<_>, _>>()?;
        let number = values.first().map_or(50_000, whole);
        let Ok(number @ 50_000..) = i32::try_from(number) else {
            return Err(SqlError::mssql(
                35_100,
                format!("Error number {number} in the THROW statement is outside the valid range. Specify an error number in the valid range of 50000 to 2147483647."),
            )
            .with_state(10));
        };
        let message = values.get(1).map(shown).unwrap_or_default();
        let state = values.get(2).map_or(1, whole).clamp(0, 255) as u8;
        let error = SqlError::mssql(number, message).with_state(state).ending(Effect::Batch);
        Ok(self.settle(error))
    }

    /// A count, or under SET NOCOUNT ON only the end of its statement.
    pub(super) fn counted(&self, outcome: Outcome) -> Outcome {
        match outcome {
            Outcome::Count { verb, .. }
                if self.options.no_count && self.db.dialect() == Dialect::SqlServer =>
            {
                super::steps::done(verb, "")
            }
            other => other,
        }
    }

    /// What the end of a batch brings: a transaction that cannot be committed does not outlive it.
    pub(super) fn end_batch(&mut self, out: &mut Answers) {
        if self.transaction.as_ref().is_some_and(|transaction| transaction.doomed) {
            self.rollback();
            out.push(Err(SqlError::mssql(
                3998,
                "Uncommittable transaction is detected at the end of the batch. The transaction is rolled back.",
            )
            .ending(Effect::Batch)));
        }
    }
}

/// `hh:mm[:ss[.fff]]` as nanoseconds.
fn clock(text: &str) -> Option<u64> {
    let mut parts = text.trim().split(':');
    let hours: u64 = parts.next()?.trim().parse().ok()?;
    let minutes: u64 = parts.next()?.parse().ok()?;
    let seconds: f64 = parts.next().unwrap_or("0").parse().ok()?;
    let fits = hours < 24 && minutes < 60 && (0.0..60.0).contains(&seconds) && parts.next().is_none();
    fits.then(|| (hours * 3600 + minutes * 60) * 1_000_000_000 + (seconds * 1e9) as u64)
}

/// RAISERROR's message: `%d`, `%s` and friends, with flags and width; `%%` is a percent sign.
fn formatted(template: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut rest = template.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            out.push(character);
            continue;
        }
        let mut flags = String::new();
        while let Some(next) = rest.next_if(|next| matches!(next, '-' | '+' | '0' | '#' | ' ')) {
            flags.push(next);
        }
        let mut width = String::new();
        while let Some(next) = rest.next_if(char::is_ascii_digit) {
            width.push(next);
        }
        let mut precision = None;
        if rest.next_if_eq(&'.').is_some() {
            let mut digits = String::new();
            while let Some(next) = rest.next_if(char::is_ascii_digit) {
                digits.push(next);
            }
            precision = digits.parse::<usize>().ok();
        }
        while rest.next_if(|next| matches!(next, 'h' | 'l' | 'I' | '6' | '4')).is_some() {}
        let Some(kind) = rest.next() else { break };
        if kind == '%' {
            out.push('%');
            continue;
        }
        let value = values.next();
        let number = || value.map_or(0, whole);
        let mut text = match kind {
            'd' | 'i' | 'u' => number().to_string(),
            'x' => format!("{:x}", number()),
            'X' => format!("{:X}", number()),
            'o' => format!("{:o}", number()),
            _ => match value {
                None | Some(Value::Null) => "(null)".to_owned(),
                Some(value) => shown(value),
            },
        };
        if kind == 's'
            && let Some(precision) = precision
        {
            text = text.chars().take(precision).collect();
        }
        let missing = width.parse::<usize>().unwrap_or(0).min(2_048).saturating_sub(text.chars().count());
        let fill = if flags.contains('0') && kind != 's' { "0" } else { " " }.repeat(missing);
        let (before, after) = if flags.contains('-') { (&text, &fill) } else { (&fill, &text) };
        out.push_str(before);
        out.push_str(after);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_formatted_with_widths_flags_and_percent_signs() {
        let values = [Value::Int(7), Value::text("abc"), Value::Int(255)];
        assert_eq!(formatted("%d of %s: %X, 100%%", &values), "7 of abc: FF, 100%");
        assert_eq!(formatted("[%5d] [%-5s] [%05d] [%s]", &values), "[    7] [abc  ] [00255] [(null)]");
        assert_eq!(formatted("%.2s%", &[Value::text("abc")]), "ab");
    }

    #[test]
    fn a_clock_is_read_and_nonsense_is_not() {
        assert_eq!(clock("00:00:01.5"), Some(1_500_000_000));
        assert_eq!(clock("01:02"), Some(3_720_000_000_000));
        assert_eq!((clock("25:00"), clock("x"), clock("1")), (None, None, None));
    }
}
