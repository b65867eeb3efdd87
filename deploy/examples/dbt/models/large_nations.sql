{{ config(materialized='view') }}
select nation, revenue, rank() over (order by revenue desc) as place
from {{ ref('orders_by_nation') }}
qualify place <= 5
