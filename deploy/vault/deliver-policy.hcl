# What delivers the secret_id may do: make one for this role, wrapped and nothing else, and know the role_id.
# It cannot read the secret.
path "auth/approle/role/keyferry-broker/role-id" {
  capabilities = ["read"]
}
path "auth/approle/role/keyferry-broker/secret-id" {
  capabilities     = ["create", "update"]
  min_wrapping_ttl = "1s"
  max_wrapping_ttl = "5m"
}
