//! The eight TPC-H tables, exactly reproducible at any scale.

use std::collections::HashSet;

use tpchgen::{
    dates::TPCHDate,
    decimal::TPCHDecimal,
    generators::{
        CustomerGenerator, LineItemGenerator, NationGenerator, OrderGenerator, PartGenerator,
        PartSuppGenerator, RegionGenerator, SupplierGenerator,
    },
};

use super::{Cell, Table};

/// Days from 0001-01-01 to 1970-01-01.
const UNIX_EPOCH: i32 = 719_162;

/// All eight tables at a scale factor; 1.0 is about 8.7 million rows.
pub fn tables(scale: f64) -> Vec<Table> {
    vec![
        region(scale),
        nation(scale),
        supplier(scale),
        customer(scale),
        part(scale),
        partsupp(scale),
        orders(scale),
        lineitem(scale),
    ]
}

fn money(value: TPCHDecimal) -> Cell {
    Cell::Decimal(i128::from(value.into_inner()), 2)
}

fn date(value: TPCHDate) -> Cell {
    Cell::Date(value.to_unix_epoch() + UNIX_EPOCH)
}

fn region(scale: f64) -> Table {
    let columns = [
        ("r_regionkey", "int NOT NULL"),
        ("r_name", "char(25) NOT NULL"),
        ("r_comment", "varchar(152) NULL"),
    ];
    let rows = RegionGenerator::new(scale, 1, 1).iter();
    let rows =
        rows.map(|r| vec![Cell::Int(r.r_regionkey), Cell::padded(r.r_name, 25), Cell::text(r.r_comment)]);
    Table::new("region", &columns, "[r_regionkey]", rows.collect())
}

fn nation(scale: f64) -> Table {
    let columns = [
        ("n_nationkey", "int NOT NULL"),
        ("n_name", "char(25) NOT NULL"),
        ("n_regionkey", "int NOT NULL"),
        ("n_comment", "varchar(152) NULL"),
    ];
    let rows = NationGenerator::new(scale, 1, 1).iter().map(|n| {
        vec![
            Cell::Int(n.n_nationkey),
            Cell::padded(n.n_name, 25),
            Cell::Int(n.n_regionkey),
            Cell::text(n.n_comment),
        ]
    });
    Table::new("nation", &columns, "[n_nationkey]", rows.collect())
}

fn supplier(scale: f64) -> Table {
    let columns = [
        ("s_suppkey", "int NOT NULL"),
        ("s_name", "char(25) NOT NULL"),
        ("s_address", "varchar(40) NOT NULL"),
        ("s_nationkey", "int NOT NULL"),
        ("s_phone", "char(15) NOT NULL"),
        ("s_acctbal", "decimal(15,2) NOT NULL"),
        ("s_comment", "varchar(101) NOT NULL"),
    ];
    let rows = SupplierGenerator::new(scale, 1, 1).iter().map(|s| {
        vec![
            Cell::Int(s.s_suppkey),
            Cell::padded(s.s_name, 25),
            Cell::text(s.s_address),
            Cell::Int(s.s_nationkey),
            Cell::padded(s.s_phone, 15),
            money(s.s_acctbal),
            Cell::text(s.s_comment),
        ]
    });
    Table::new("supplier", &columns, "[s_suppkey]", rows.collect())
}

fn customer(scale: f64) -> Table {
    let columns = [
        ("c_custkey", "int NOT NULL"),
        ("c_name", "varchar(25) NOT NULL"),
        ("c_address", "varchar(40) NOT NULL"),
        ("c_nationkey", "int NOT NULL"),
        ("c_phone", "char(15) NOT NULL"),
        ("c_acctbal", "decimal(15,2) NOT NULL"),
        ("c_mktsegment", "char(10) NOT NULL"),
        ("c_comment", "varchar(117) NOT NULL"),
    ];
    let rows = CustomerGenerator::new(scale, 1, 1).iter().map(|c| {
        vec![
            Cell::Int(c.c_custkey),
            Cell::text(c.c_name),
            Cell::text(c.c_address),
            Cell::Int(c.c_nationkey),
            Cell::padded(c.c_phone, 15),
            money(c.c_acctbal),
            Cell::padded(c.c_mktsegment, 10),
            Cell::text(c.c_comment),
        ]
    });
    Table::new("customer", &columns, "[c_custkey]", rows.collect())
}

fn part(scale: f64) -> Table {
    let columns = [
        ("p_partkey", "int NOT NULL"),
        ("p_name", "nvarchar(55) NOT NULL"),
        ("p_mfgr", "nchar(25) NOT NULL"),
        ("p_brand", "char(10) NOT NULL"),
        ("p_type", "varchar(25) NOT NULL"),
        ("p_size", "smallint NOT NULL"),
        ("p_container", "char(10) NOT NULL"),
        ("p_retailprice", "money NOT NULL"),
        ("p_comment", "varchar(23) NOT NULL"),
    ];
    let rows = PartGenerator::new(scale, 1, 1).iter().map(|p| {
        vec![
            Cell::Int(p.p_partkey),
            Cell::text(p.p_name),
            Cell::padded(p.p_mfgr, 25),
            Cell::padded(p.p_brand, 10),
            Cell::text(p.p_type),
            Cell::Int(i64::from(p.p_size)),
            Cell::padded(p.p_container, 10),
            Cell::Decimal(i128::from(p.p_retailprice.into_inner()) * 100, 4),
            Cell::text(p.p_comment),
        ]
    });
    Table::new("part", &columns, "[p_partkey]", rows.collect())
}

fn partsupp(scale: f64) -> Table {
    let columns = [
        ("ps_partkey", "int NOT NULL"),
        ("ps_suppkey", "int NOT NULL"),
        ("ps_availqty", "int NOT NULL"),
        ("ps_supplycost", "decimal(15,2) NOT NULL"),
        ("ps_comment", "varchar(199) NOT NULL"),
    ];
    // With fewer than some hundred suppliers the generator names one twice for a part.
    let mut seen = HashSet::new();
    let rows =
        PartSuppGenerator::new(scale, 1, 1).iter().filter(|p| seen.insert((p.ps_partkey, p.ps_suppkey)));
    let rows = rows.map(|p| {
        vec![
            Cell::Int(p.ps_partkey),
            Cell::Int(p.ps_suppkey),
            Cell::Int(i64::from(p.ps_availqty)),
            money(p.ps_supplycost),
            Cell::text(p.ps_comment),
        ]
    });
    Table::new("partsupp", &columns, "[ps_partkey], [ps_suppkey]", rows.collect())
}

fn orders(scale: f64) -> Table {
    let columns = [
        ("o_orderkey", "bigint NOT NULL"),
        ("o_custkey", "int NOT NULL"),
        ("o_orderstatus", "char(1) NOT NULL"),
        ("o_totalprice", "decimal(15,2) NOT NULL"),
        ("o_orderdate", "date NOT NULL"),
        ("o_orderpriority", "char(15) NOT NULL"),
        ("o_clerk", "char(15) NOT NULL"),
        ("o_shippriority", "int NOT NULL"),
        ("o_comment", "varchar(79) NOT NULL"),
    ];
    let rows = OrderGenerator::new(scale, 1, 1).iter().map(|o| {
        vec![
            Cell::Int(o.o_orderkey),
            Cell::Int(o.o_custkey),
            Cell::text(o.o_orderstatus),
            money(o.o_totalprice),
            date(o.o_orderdate),
            Cell::padded(o.o_orderpriority, 15),
            Cell::padded(o.o_clerk, 15),
            Cell::Int(i64::from(o.o_shippriority)),
            Cell::text(o.o_comment),
        ]
    });
    Table::new("orders", &columns, "[o_orderkey]", rows.collect())
}

/// LINEITEM alone.
pub fn lineitem(scale: f64) -> Table {
    let columns = [
        ("l_orderkey", "bigint NOT NULL"),
        ("l_partkey", "int NOT NULL"),
        ("l_suppkey", "int NOT NULL"),
        ("l_linenumber", "tinyint NOT NULL"),
        ("l_quantity", "decimal(15,2) NOT NULL"),
        ("l_extendedprice", "decimal(15,2) NOT NULL"),
        ("l_discount", "decimal(15,2) NOT NULL"),
        ("l_tax", "decimal(15,2) NOT NULL"),
        ("l_returnflag", "char(1) NOT NULL"),
        ("l_linestatus", "char(1) NOT NULL"),
        ("l_shipdate", "date NOT NULL"),
        ("l_commitdate", "date NOT NULL"),
        ("l_receiptdate", "date NOT NULL"),
        ("l_shipinstruct", "char(25) NOT NULL"),
        ("l_shipmode", "char(10) NOT NULL"),
        ("l_comment", "varchar(44) NOT NULL"),
    ];
    let rows = LineItemGenerator::new(scale, 1, 1).iter().map(|l| {
        vec![
            Cell::Int(l.l_orderkey),
            Cell::Int(l.l_partkey),
            Cell::Int(l.l_suppkey),
            Cell::Int(i64::from(l.l_linenumber)),
            Cell::Decimal(i128::from(l.l_quantity) * 100, 2),
            money(l.l_extendedprice),
            money(l.l_discount),
            money(l.l_tax),
            Cell::text(l.l_returnflag),
            Cell::text(l.l_linestatus),
            date(l.l_shipdate),
            date(l.l_commitdate),
            date(l.l_receiptdate),
            Cell::padded(l.l_shipinstruct, 25),
            Cell::padded(l.l_shipmode, 10),
            Cell::text(l.l_comment),
        ]
    });
    Table::new("lineitem", &columns, "[l_orderkey], [l_linenumber]", rows.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_unique_at_every_scale_and_the_usual_ones_are_whole() {
        for (scale, rows) in [(0.001, None), (0.002, None), (0.01, Some(8000))] {
            let table = partsupp(scale);
            let keys: HashSet<String> =
                table.rows.iter().map(|row| format!("{:?} {:?}", row[0], row[1])).collect();
            assert_eq!(keys.len(), table.rows.len(), "{scale}");
            assert!(rows.is_none_or(|rows| table.rows.len() == rows), "{}", table.rows.len());
        }
    }
}
