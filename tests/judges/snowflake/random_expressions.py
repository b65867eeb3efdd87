"""Random expressions in Snowflake's words and in DuckDB's.

Where the two products mean different things by the same words, the expression says what it means to both: division and averages are
compared as floats (a median too: DuckDB cuts that of decimals to their own scale), GREATEST and LEAST get no NULL, frames of window functions are written out.
"""

import dataclasses

TEXTS = ["a", "BUILDING", "R", "special", "%", "Clerk#000000001", "MAIL", "e", "", "the", "AIR"]
DATES = ["1992-01-01", "1994-02-28", "1995-06-17", "1996-02-29", "1996-12-31", "1998-08-02"]


@dataclasses.dataclass
class Expression:
    snowflake: str
    duckdb: str
    kind: str


def alike(text, kind):
    return Expression(text, text, kind)


class Maker:
    def __init__(self, dice, columns, features):
        self.dice, self.columns, self.features = dice, columns, features

    def pick(self, *ways):
        return self.dice.choice(ways)

    def note(self, feature):
        self.features.add(feature)

    def column(self, kind):
        fitting = [column for column in self.columns if column.kind == kind]
        return self.dice.choice(fitting) if fitting else self.literal(kind)

    def literal(self, kind):
        if kind == "int":
            return alike(str(self.dice.choice([0, 1, -1, 2, 7, 10, 100, 12345, -40])), "int")
        if kind == "decimal":
            return alike(f"CAST('{self.dice.choice(['0.00', '1.50', '-2.25', '1000.01', '0.07'])}' AS DECIMAL(15,2))", "decimal")
        if kind == "date":
            return alike(f"CAST('{self.dice.choice(DATES)}' AS DATE)", "date")
        if kind == "bool":
            return alike(self.dice.choice(["TRUE", "FALSE"]), "bool")
        return alike(f"'{self.dice.choice(TEXTS)}'", "text")

    def any(self, depth):
        return self.of(self.dice.choices(["int", "text", "decimal", "date", "bool"], [30, 30, 15, 15, 10])[0], depth)

    def of(self, kind, depth):
        if depth <= 0 or self.dice.random() < 0.25:
            return self.literal(kind) if kind == "bool" or self.dice.random() < 0.15 else self.column(kind)
        return {"int": self.int, "decimal": self.decimal, "text": self.text, "date": self.date, "bool": self.bool}[kind](depth - 1)

    def fill(self, kind, pattern, *parts, duckdb=None):
        self.note(pattern.split("(")[0].strip("{} ").lower() if "(" in pattern else "operators")
        return Expression(
            pattern.format(*(part.snowflake for part in parts)), (duckdb or pattern).format(*(part.duckdb for part in parts)), kind)

    def choose(self, kind, depth):
        """CASE, COALESCE, NULLIF, IFF: the same for every kind."""
        of = lambda: self.of(kind, depth)  # noqa: E731
        way = self.dice.randint(0, 3)
        if way == 0:
            return self.fill(kind, "CASE WHEN {0} THEN {1} WHEN {2} THEN {3} END", self.bool(depth), of(), self.bool(depth), of())
        if way == 1:
            return self.fill(kind, "COALESCE({0}, {1})", of(), of())
        if way == 2:
            return self.fill(kind, "NULLIF({0}, {1})", of(), of())
        return self.fill(kind, "IFF({0}, {1}, {2})", self.bool(depth), of(), of(), duckdb="IF({0}, {1}, {2})")

    def int(self, depth):
        whole, text, day = (lambda: self.of("int", depth)), (lambda: self.of("text", depth)), (lambda: self.of("date", depth))
        return self.pick(
            lambda: self.choose("int", depth),
            lambda: self.fill("int", "({0} + {1})", whole(), whole()),
            lambda: self.fill("int", "({0} - {1})", whole(), whole()),
            lambda: self.fill("int", "(MOD({0}, 1000) * {1})", whole(), self.literal("int")),
            lambda: self.fill("int", "MOD({0}, 7)", whole()),
            lambda: self.fill("int", "ABS({0})", whole()),
            lambda: self.fill("int", "SIGN({0})", self.of("decimal", depth)),
            lambda: self.fill("int", "LENGTH({0})", text()),
            lambda: self.fill("int", "POSITION('e' IN {0})", text()),
            lambda: self.fill("int", "CHARINDEX('a', {0})", text(), duckdb="STRPOS({0}, 'a')"),
            lambda: self.fill("int", "ASCII(LEFT({0}, 1))", self.column("text")),
            lambda: self.fill("int", "YEAR({0})", day()),
            lambda: self.fill("int", "MONTH({0})", day()),
            lambda: self.fill("int", "EXTRACT(DAY FROM {0})", day()),
            lambda: self.fill("int", "QUARTER({0})", day()),
            lambda: self.fill("int", "DAYOFYEAR({0})", day()),
            lambda: self.fill("int", "DAYOFWEEK({0})", day()),
            lambda: self.fill("int", "WEEKISO({0})", day(), duckdb="WEEK({0})"),
            lambda: self.fill("int", "DATEDIFF('day', {0}, {1})", day(), day()),
            lambda: self.fill("int", "DATEDIFF('month', {0}, {1})", day(), day()),
            lambda: self.fill("int", "DATEDIFF('year', {0}, {1})", day(), day()),
            lambda: self.fill("int", "CAST(FLOOR({0}) AS INTEGER)", self.of("decimal", depth)),
            lambda: self.fill("int", "CAST(CEIL({0}) AS INTEGER)", self.of("decimal", depth)),
            lambda: self.fill("int", "CAST(CAST({0} AS VARCHAR) AS INTEGER)", self.column("int")),
            lambda: self.fill("int", "TRY_CAST({0} AS INTEGER)", self.column("text")),
        )()

    def decimal(self, depth):
        number = lambda: self.of("decimal", depth)  # noqa: E731
        return self.pick(
            lambda: self.choose("decimal", depth),
            lambda: self.fill("decimal", "({0} + {1})", number(), number()),
            lambda: self.fill("decimal", "({0} - {1})", number(), number()),
            lambda: self.fill("decimal", "({0} * {1})", self.column("decimal"), self.column("int")),
            lambda: self.fill("decimal", "ROUND({0}, 1)", self.column("decimal")),
            lambda: self.fill("decimal", "ROUND({0}, 0)", self.column("decimal")),
            lambda: self.fill("decimal", "ABS({0})", number()),
            lambda: self.fill("decimal", "(-{0})", self.column("decimal")),
            lambda: self.fill("decimal", "CAST({0} AS DECIMAL(18,4))", self.of("int", 0)),
            lambda: self.fill("decimal", "TRUNC({0})", self.column("decimal")),
            lambda: self.fill("decimal", "GREATEST(COALESCE({0}, 0), COALESCE({1}, 0))", self.column("decimal"), self.column("decimal")),
            lambda: self.fill("decimal", "LEAST(COALESCE({0}, 0), COALESCE({1}, 0))", self.column("decimal"), self.column("decimal")),
        )()

    def text(self, depth):
        text = lambda: self.of("text", depth)  # noqa: E731
        few = alike(str(self.dice.randint(1, 9)), "int")
        return self.pick(
            lambda: self.choose("text", depth),
            lambda: self.fill("text", "UPPER({0})", text()),
            lambda: self.fill("text", "LOWER({0})", text()),
            lambda: self.fill("text", "({0} || '-' || {1})", text(), text()),
            lambda: self.fill("text", "CONCAT({0}, {1})", self.column("text"), self.literal("text")),
            lambda: self.fill("text", "SUBSTR({0}, {1}, 4)", text(), few),
            lambda: self.fill("text", "SUBSTRING({0}, {1})", text(), few),
            lambda: self.fill("text", "LEFT({0}, {1})", text(), few),
            lambda: self.fill("text", "RIGHT({0}, {1})", text(), few),
            lambda: self.fill("text", "TRIM({0})", text()),
            lambda: self.fill("text", "RTRIM({0})", text()),
            lambda: self.fill("text", "LTRIM({0}, 'abcS')", text()),
            lambda: self.fill("text", "REPLACE({0}, 'e', 'EE')", text()),
            lambda: self.fill("text", "REVERSE({0})", text()),
            lambda: self.fill("text", "REPEAT({0}, 2)", text()),
            lambda: self.fill("text", "LPAD({0}, 12, '*')", text()),
            lambda: self.fill("text", "RPAD({0}, 5, '-')", text()),
            lambda: self.fill("text", "SPLIT_PART({0}, ' ', {1})", text(), few),
            lambda: self.fill("text", "TRANSLATE({0}, 'abc', 'xyz')", text()),
            lambda: self.fill("text", "CAST({0} AS VARCHAR)", self.of("int", depth)),
            lambda: self.fill("text", "CAST({0} AS VARCHAR)", self.column("decimal")),
            lambda: self.fill("text", "TO_CHAR({0}, 'YYYY-MM-DD')", self.of("date", depth), duckdb="STRFTIME({0}, '%Y-%m-%d')"),
            lambda: self.fill("text", "TO_CHAR({0}, 'DD/MM/YYYY')", self.of("date", depth), duckdb="STRFTIME({0}, '%d/%m/%Y')"),
            lambda: self.fill("text", "MD5({0})", text()),
            lambda: self.fill("text", "MONTHNAME({0})", self.of("date", depth), duckdb="LEFT(MONTHNAME({0}), 3)"),
            lambda: self.fill("text", "DAYNAME({0})", self.of("date", depth), duckdb="LEFT(DAYNAME({0}), 3)"),
        )()

    def date(self, depth):
        day = lambda: self.of("date", depth)  # noqa: E731
        few = alike(str(self.dice.randint(-40, 40)), "int")
        part = self.dice.choice(["month", "year", "quarter", "week"])
        return self.pick(
            lambda: self.choose("date", depth),
            lambda: self.fill("date", "DATEADD(day, {1}, {0})", day(), few, duckdb="CAST({0} + INTERVAL ({1}) DAY AS DATE)"),
            lambda: self.fill("date", "DATEADD(month, {1}, {0})", day(), few, duckdb="CAST({0} + INTERVAL ({1}) MONTH AS DATE)"),
            lambda: self.fill("date", "DATEADD(year, {1}, {0})", day(), few, duckdb="CAST({0} + INTERVAL ({1}) YEAR AS DATE)"),
            lambda: self.fill("date", f"DATE_TRUNC('{part}', {{0}})", day(), duckdb=f"CAST(DATE_TRUNC('{part}', {{0}}) AS DATE)"),
            lambda: self.fill("date", "LAST_DAY({0})", day()),
            lambda: self.fill("date", "CAST(CAST({0} AS VARCHAR) AS DATE)", day()),
            lambda: self.fill("date", "({0} + {1})", self.column("date"), few),
            lambda: self.fill("date", "GREATEST(COALESCE({0}, DATE '1990-01-01'), {1})", self.column("date"), self.literal("date")),
        )()

    def bool(self, depth):
        kind = self.dice.choice(["int", "text", "decimal", "date"])
        of = lambda: self.of(kind, depth)  # noqa: E731
        sign = self.dice.choice(["=", "<>", "<", "<=", ">", ">="])
        pattern = self.dice.choice(["%a%", "_e%", "%special%", "B%", "%0"])
        return self.pick(
            lambda: self.fill("bool", f"({{0}} {sign} {{1}})", of(), of()),
            lambda: self.fill("bool", f"({{0}} {sign} {{1}})", self.column(kind), self.literal(kind)),
            lambda: self.fill("bool", "({0} BETWEEN {1} AND {2})", self.column(kind), self.literal(kind), self.literal(kind)),
            lambda: self.fill("bool", "({0} IN ({1}, {2}, {3}))", of(), self.literal(kind), self.literal(kind), self.column(kind)),
            lambda: self.fill("bool", "({0} NOT IN ({1}, {2}))", of(), self.literal(kind), self.literal(kind)),
            lambda: self.fill("bool", f"({{0}} LIKE '{pattern}')", self.of("text", depth)),
            lambda: self.fill("bool", f"({{0}} NOT LIKE '{pattern}')", self.of("text", depth)),
            lambda: self.fill("bool", f"({{0}} ILIKE '{pattern}')", self.of("text", depth)),
            lambda: self.fill("bool", "STARTSWITH({0}, 'C')", self.of("text", depth), duckdb="STARTS_WITH({0}, 'C')"),
            lambda: self.fill("bool", "CONTAINS({0}, 'an')", self.of("text", depth)),
            lambda: self.fill("bool", "({0} IS NULL)", of()),
            lambda: self.fill("bool", "({0} IS NOT NULL)", of()),
            lambda: self.fill("bool", "({0} IS DISTINCT FROM {1})", of(), of()),
            lambda: self.fill("bool", "(MOD({0}, {1}) = 0)", self.column("int"), alike(str(self.dice.randint(2, 9)), "int")),
            lambda: self.fill("bool", "({0} AND {1})", self.of("bool", depth), self.of("bool", depth)),
            lambda: self.fill("bool", "({0} OR {1})", self.of("bool", depth), self.of("bool", depth)),
            lambda: self.fill("bool", "(NOT {0})", self.of("bool", depth)),
        )()

    def condition(self):
        return self.bool(2)

    def key(self, kind=None):
        """What rows are grouped by: few values rather than many."""
        kind = kind or self.dice.choice(["int", "text", "date", "bool"])
        if kind == "int":
            return self.pick(
                lambda: self.fill("int", "MOD({0}, 5)", self.column("int")), lambda: self.fill("int", "YEAR({0})", self.column("date")),
                lambda: self.fill("int", "LENGTH({0})", self.column("text")), lambda: self.column("int"))()
        if kind == "text":
            return self.pick(
                lambda: self.fill("text", "LEFT({0}, 1)", self.column("text")), lambda: self.fill("text", "TRIM({0})", self.column("text")),
                lambda: self.fill("text", "RIGHT({0}, 2)", self.column("text")), lambda: self.column("text"))()
        if kind == "date":
            return self.fill(
                "date", "DATE_TRUNC('month', {0})", self.column("date"), duckdb="CAST(DATE_TRUNC('month', {0}) AS DATE)")
        return self.bool(1)

    def aggregate(self, exact=False):
        number = lambda: self.column(self.dice.choice(["int", "decimal"]))  # noqa: E731
        ways = [
            lambda: alike("COUNT(*)", "int"),
            lambda: self.fill("int", "COUNT({0})", self.any(1)),
            lambda: self.fill("int", "COUNT(DISTINCT {0})", self.any(1)),
            lambda: self.fill("decimal", "SUM({0})", self.of("decimal", 1)),
            lambda: self.fill("int", "SUM({0})", self.of("int", 1)),
            lambda: self.fill("int", "SUM(DISTINCT {0})", self.column("int")),
            lambda: self.fill("int", "COUNT_IF({0})", self.bool(1)),
            lambda: self.fill("int", "SUM(CASE WHEN {0} THEN 1 ELSE 0 END)", self.bool(1)),
        ]
        kind = self.dice.choice(["int", "decimal", "text", "date"])
        if not exact:
            ways += [
                lambda: self.fill(kind, "MIN({0})", self.of(kind, 1)),
                lambda: self.fill(kind, "MAX({0})", self.of(kind, 1)),
                lambda: self.fill("float", "AVG({0})", number()),
                lambda: self.fill("float", "MEDIAN({0})", number(), duckdb="MEDIAN(CAST({0} AS DOUBLE))"),
                lambda: self.fill("float", "STDDEV({0})", number()),
                lambda: self.fill("float", "VAR_POP({0})", number()),
                lambda: self.fill("float", "(SUM({0}) / NULLIF(COUNT({1}), 0))", self.column("int"), self.column("int")),
                lambda: self.fill("bool", "BOOLAND_AGG({0})", self.bool(1), duckdb="BOOL_AND({0})"),
                lambda: self.fill("bool", "BOOLOR_AGG({0})", self.bool(1), duckdb="BOOL_OR({0})"),
                lambda: self.fill(
                    "text", "LEFT(LISTAGG(DISTINCT {0}, ',') WITHIN GROUP (ORDER BY {0}), 200)", self.key("text"),
                    duckdb="LEFT(COALESCE(STRING_AGG(DISTINCT {0}, ',' ORDER BY {0}), ''), 200)"),
            ]
        return self.dice.choice(ways)()

    def having(self):
        sign = self.dice.choice([">", "<", ">=", "<>"])
        return self.fill("bool", f"({{0}} {sign} {{1}})", self.aggregate(exact=True), self.literal("int"))

    def rank(self, order):
        name = self.dice.choice(["ROW_NUMBER", "RANK", "DENSE_RANK"])
        self.note(name.lower())
        part = self.key(self.dice.choice(["int", "text"]))
        return Expression(
            f"{name}() OVER (PARTITION BY {part.snowflake} ORDER BY {order})",
            f"{name}() OVER (PARTITION BY {part.duckdb} ORDER BY {order})", "int")

    def window(self, order):
        part = self.key(self.dice.choice(["int", "text"]))
        value = self.column(self.dice.choice(["int", "decimal", "date", "text"]))
        number = self.column(self.dice.choice(["int", "decimal"]))
        frame = self.dice.choice([
            "ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", "ROWS BETWEEN 2 PRECEDING AND CURRENT ROW",
            "ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING", "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
        ])
        over = f"OVER (PARTITION BY {{1}} ORDER BY {order})"
        framed = f"OVER (PARTITION BY {{1}} ORDER BY {order} {frame})"
        return self.pick(
            lambda: self.rank(order),
            lambda: self.fill("int", f"NTILE(4) {over}", value, part),
            lambda: self.fill(value.kind, f"LAG({{0}}) {over}", value, part),
            lambda: self.fill(value.kind, f"LEAD({{0}}, 2) {over}", value, part),
            lambda: self.fill(value.kind, f"FIRST_VALUE({{0}}) {framed}", value, part),
            lambda: self.fill(value.kind, f"LAST_VALUE({{0}}) {framed}", value, part),
            lambda: self.fill(number.kind, f"SUM({{0}}) {framed}", number, part),
            lambda: self.fill(value.kind, f"MIN({{0}}) {framed}", value, part),
            lambda: self.fill(value.kind, f"MAX({{0}}) {framed}", value, part),
            lambda: self.fill("int", f"COUNT({{0}}) {framed}", value, part),
            lambda: self.fill("int", "COUNT(*) OVER (PARTITION BY {1})", value, part),
        )()
