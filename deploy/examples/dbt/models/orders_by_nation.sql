-- One row for each nation that has ordered anything.
select
    n.n_name as nation,
    count(*) as orders,
    count(distinct c.c_custkey) as customers,
    sum(o.o_totalprice) as revenue,
    max(o.o_orderdate) as last_order
from {{ source('sales', 'orders') }} as o
join {{ source('sales', 'customer') }} as c on c.c_custkey = o.o_custkey
join {{ source('sales', 'nation') }} as n on n.n_nationkey = c.c_nationkey
group by n.n_name
