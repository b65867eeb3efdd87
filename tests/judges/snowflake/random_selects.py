"""Random SELECTs over tables, each in Snowflake's words and in DuckDB's.

The two texts are made side by side from one tree, so a difference in the answers is a difference of the engines. Every question is
ordered by all columns that are exact, so that the rows come in one order.
"""

import dataclasses

import pyarrow as pa
import random_expressions
from random_expressions import Expression


def usable(tables):
    """Columns whose values both engines hold exactly: table → [(column, kind)]."""
    found = {}
    for name, table in tables.items():
        columns = [(field.name, kind_of(field.type)) for field in table.schema]
        columns = [(column, kind) for column, kind in columns if kind and column.split("_")[0] in PREFIXES.get(name, ())]
        if columns:
            found[name] = columns
    return found


# The tables of TPC-H, and which columns join them.
PREFIXES = {
    "REGION": ("r", "R"), "NATION": ("n", "N"), "SUPPLIER": ("s", "S"), "CUSTOMER": ("c", "C"), "PART": ("p", "P"),
    "PARTSUPP": ("ps", "PS"), "ORDERS": ("o", "O"), "LINEITEM": ("l", "L"),
}
JOINS = [
    ("NATION", "n_regionkey", "REGION", "r_regionkey"), ("SUPPLIER", "s_nationkey", "NATION", "n_nationkey"),
    ("CUSTOMER", "c_nationkey", "NATION", "n_nationkey"), ("ORDERS", "o_custkey", "CUSTOMER", "c_custkey"),
    ("LINEITEM", "l_orderkey", "ORDERS", "o_orderkey"), ("LINEITEM", "l_partkey", "PART", "p_partkey"),
    ("LINEITEM", "l_suppkey", "SUPPLIER", "s_suppkey"), ("PARTSUPP", "ps_partkey", "PART", "p_partkey"),
    ("PARTSUPP", "ps_suppkey", "SUPPLIER", "s_suppkey"),
]


def kind_of(ty):
    if pa.types.is_integer(ty):
        return "int"
    if pa.types.is_decimal(ty):
        return "decimal"
    if pa.types.is_string(ty) or pa.types.is_large_string(ty):
        return "text"
    if pa.types.is_date(ty):
        return "date"
    return None


@dataclasses.dataclass
class Question:
    snowflake: str
    duckdb: str
    features: set


def both(expression, alias=None):
    """An expression's two texts."""
    suffix = f" AS {alias}" if alias else ""
    return expression.snowflake + suffix, expression.duckdb + suffix


class Generator:
    def __init__(self, dice, tables):
        self.dice, self.tables = dice, tables
        self.joins = [
            (left, self.named(left, a), right, self.named(right, b))
            for left, a, right, b in JOINS if left in tables and right in tables
        ]

    def named(self, table, column):
        return next((name for name, _ in self.tables[table] if name.lower() == column), column)

    def chance(self, share):
        return self.dice.random() < share

    def question(self):
        shape = self.dice.choices(
            [self.rows, self.groups, self.windows, self.sets, self.subqueries, self.distinct],
            [25, 30, 20, 10, 10, 5])[0]
        self.features = {shape.__name__}
        snowflake, duckdb = shape()
        return Question(snowflake, duckdb, self.features)

    # FROM and WHERE.

    def source(self, most=3):
        """FROM with its columns as expressions: text, columns by kind."""
        first = self.dice.choice(sorted(self.tables))
        used, text = [first], f'"{first}" T0'
        while len(used) < most and self.chance(0.45):
            fits = [
                (at, own, other, theirs) for at, name in enumerate(used)
                for left, a, right, b in self.joins
                for own, other, theirs in ((a, right, b),) * (left == name) + ((b, left, a),) * (right == name)
            ]
            if not fits:
                break
            at, own, other, theirs = self.dice.choice(fits)
            kind = self.dice.choices(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"], [60, 25, 10, 5])[0]
            self.features.add(kind.lower())
            text += f' {kind} "{other}" T{len(used)} ON T{at}."{own}" = T{len(used)}."{theirs}"'
            if kind != "JOIN" or self.chance(0.2):
                extra = [name for name, kind in self.tables[other] if kind == "int"]
                text += f' AND T{len(used)}."{self.dice.choice(extra)}" % 3 <> 1'
            used.append(other)
        columns = [
            Expression(f'T{at}."{column}"', f'T{at}."{column}"', kind)
            for at, name in enumerate(used) for column, kind in self.tables[name]
        ]
        self.make = random_expressions.Maker(self.dice, columns, self.features)
        where = ("", "")
        if self.chance(0.75) or "LINEITEM" in used:
            condition = self.make.condition()
            where = (f" WHERE {condition.snowflake}", f" WHERE {condition.duckdb}")
            self.features.add("where")
        return tuple(f"FROM {text}{part}" for part in where)

    def ordered(self, items, source, tail=("", ""), hint=""):
        """SELECT … ORDER BY every exact column, now and then with LIMIT and OFFSET."""
        order = [str(at + 1) for at, item in enumerate(items) if item.kind != "float"]
        order = [f"{place} {self.dice.choice(['', 'DESC', 'NULLS FIRST', 'DESC NULLS LAST'])}".strip() for place in order]
        self.dice.shuffle(order)
        end = f" ORDER BY {', '.join(order)}" if order else ""
        exact = all(item.kind != "float" for item in items)
        if exact and self.chance(0.5):
            end += f" LIMIT {self.dice.randint(1, 200)}"
            if self.chance(0.3):
                end += f" OFFSET {self.dice.randint(0, 20)}"
            self.features.add("limit")
        elif exact:
            end += " LIMIT 500"
        texts = []
        for side in (0, 1):
            shown = ", ".join(both(item, f"C{at}")[side] for at, item in enumerate(items))
            texts.append(f"SELECT {hint}{shown} {source[side]}{tail[side]}{end}")
        return tuple(texts)

    # Shapes.

    def rows(self):
        source = self.source()
        return self.ordered([self.make.any(3) for _ in range(self.dice.randint(1, 5))], source)

    def distinct(self):
        source = self.source(2)
        return self.ordered([self.make.any(2) for _ in range(self.dice.randint(1, 3))], source, hint="DISTINCT ")

    def groups(self):
        source = self.source()
        keys = [self.make.key() for _ in range(self.dice.randint(0, 3))]
        items = keys + [self.make.aggregate() for _ in range(self.dice.randint(1, 4))]
        tail = ["", ""]
        if keys:
            places = ", ".join(str(at + 1) for at in range(len(keys)))
            tail = [f" GROUP BY {places}"] * 2
            if self.chance(0.3):
                having = self.make.having()
                tail = [tail[0] + f" HAVING {having.snowflake}", tail[1] + f" HAVING {having.duckdb}"]
                self.features.add("having")
        return self.ordered(items, source, tail)

    def windows(self):
        """Window functions over rows that a key of the first table tells apart."""
        source = self.source(2)
        own = [self.make.any(2) for _ in range(self.dice.randint(1, 2))]
        whole = [column for column in self.make.columns if column.kind in ("int", "decimal", "date")]
        whole += [column for column in self.make.columns if column.kind == "text"]
        order = ", ".join(f"{column.snowflake} {self.dice.choice(['', 'DESC'])}".strip() for column in whole)
        items = own + [self.make.window(order) for _ in range(self.dice.randint(1, 3))]
        tail = ("", "")
        if self.chance(0.25):
            self.features.add("qualify")
            rank = self.make.rank(order)
            limit = self.dice.randint(1, 5)
            tail = (f" QUALIFY {rank.snowflake} <= {limit}", f" QUALIFY {rank.duckdb} <= {limit}")
        return self.ordered(items, source, tail)

    def sets(self):
        operator = self.dice.choice(["UNION", "UNION ALL", "INTERSECT", "EXCEPT"])
        self.features.add(operator.lower())
        kinds = [self.dice.choice(["int", "text", "date", "int"]) for _ in range(self.dice.randint(1, 2))]
        halves = []
        for _ in range(2):
            source = self.source(1)
            items = [self.make.key(kind) for kind in kinds]
            halves.append([
                f"SELECT {', '.join(both(item, f'C{at}')[side] for at, item in enumerate(items))} {source[side]}" for side in (0, 1)])
        order = " ORDER BY " + ", ".join(str(at + 1) for at in range(len(kinds))) + " LIMIT 300"
        return tuple(f"{halves[0][side]} {operator} {halves[1][side]}{order}" for side in (0, 1))

    def subqueries(self):
        """A common table expression with groups, asked again; or EXISTS, IN and a scalar subquery."""
        if self.chance(0.5):
            self.features.add("with")
            source = self.source(2)
            key, value = self.make.key(), self.make.aggregate(exact=True)
            inner = [
                f"SELECT {both(key, 'K')[side]}, {both(value, 'V')[side]} {source[side]} GROUP BY 1" for side in (0, 1)]
            outer = "SELECT COUNT(*) AS C0, COUNT(K) AS C1, MIN(V) AS C2, MAX(V) AS C3 FROM X WHERE V IS NOT NULL"
            return tuple(f"WITH X AS ({text}) {outer}" for text in inner)
        left, own, right, theirs = self.dice.choice(self.joins)
        columns = [Expression(f'T0."{name}"', f'T0."{name}"', kind) for name, kind in self.tables[left]]
        inner = [Expression(f'U."{name}"', f'U."{name}"', kind) for name, kind in self.tables[right]]
        self.make = random_expressions.Maker(self.dice, inner, self.features)
        test = self.make.condition()
        self.make = random_expressions.Maker(self.dice, columns, self.features)
        word = self.dice.choice(["", "NOT "])
        how = self.dice.choice(["exists", "in", "scalar"])
        self.features.add(how)
        tails = []
        for text in (test.snowflake, test.duckdb):
            if how == "exists":
                tails.append(f'WHERE {word}EXISTS (SELECT 1 FROM "{right}" U WHERE U."{theirs}" = T0."{own}" AND {text})')
            elif how == "in":
                tails.append(f'WHERE T0."{own}" {word}IN (SELECT U."{theirs}" FROM "{right}" U WHERE {text})')
            else:
                tails.append(f'WHERE T0."{own}" >= (SELECT AVG(U."{theirs}") FROM "{right}" U WHERE {text})')
        source = tuple(f'FROM "{left}" T0 {tail}' for tail in tails)
        return self.ordered([self.make.any(2) for _ in range(self.dice.randint(1, 3))], source)
