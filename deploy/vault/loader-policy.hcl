# What the broker's AppRole may do: read one secret, nothing else. (Renewing and revoking its own
# token comes with Vault's default policy.)
path "secret/data/pipelines/mssql_to_snowflake" {
  capabilities = ["read"]
}
