#!/usr/bin/env bash
# Entra ID for one broker, with the Azure CLI of somebody who may register applications (`az login` first). Two applications:
# one stands for Snowflake and is what tokens are for; the other is the broker's own and may ask for them.
set -euo pipefail
umask 077

# The id of the application of exactly this name. (--display-name would also find those whose name only begins so.)
application() { az ad app list --filter "displayName eq '$1'" --query '[0].appId' --output tsv; }

# The audience is api://APPLICATION-ID: tenants that restrict identifier URIs take that form without being asked, and no
# other application can claim it. `scope` in broker.yaml and EXTERNAL_OAUTH_AUDIENCE_LIST in Snowflake name it.
resource=$(application "Keyferry Snowflake")
if [ -z "$resource" ]; then
    resource=$(az ad app create --display-name "Keyferry Snowflake" --sign-in-audience AzureADMyOrg --query appId --output tsv)
    az ad sp create --id "$resource" --output none
fi
az ad app update --id "$resource" --identifier-uris "api://$resource"
# Only applications that are assigned get a token.
az ad sp update --id "$resource" --set appRoleAssignmentRequired=true

client=$(application "Keyferry loader")
if [ -z "$client" ]; then
    client=$(az ad app create --display-name "Keyferry loader" --sign-in-audience AzureADMyOrg --query appId --output tsv)
    az ad sp create --id "$client" --output none
fi

# A role of the resource, assigned to the loader's application.
role=6e0c1a52-7d0d-4b8e-9f43-1f6f5b0c7a11
az ad app update --id "$resource" --app-roles "[{\"id\": \"$role\", \"value\": \"session:role:LOADER\", \"displayName\": \"Loader\",
    \"description\": \"Sessions with the role LOADER\", \"allowedMemberTypes\": [\"Application\"], \"isEnabled\": true}]"
az rest --method POST --output none --uri "https://graph.microsoft.com/v1.0/servicePrincipals(appId='$client')/appRoleAssignments" --body "{
    \"principalId\": \"$(az ad sp show --id "$client" --query id --output tsv)\",
    \"resourceId\": \"$(az ad sp show --id "$resource" --query id --output tsv)\",
    \"appRoleId\": \"$role\"}" || echo "setup: the role was assigned before, or the assignment was refused (see above)" >&2

# A client secret for half a year, beside those that are there: write it to Vault, and remove the old one when /health says
# that the new version is in use. It goes to a file and nowhere else, without the line's end that az prints: Vault stores a
# file as it is.
secret=$(az ad app credential reset --id "$client" --append --display-name "$(date +%Y-%m)" \
    --end-date "$(date -d '+180 days' +%Y-%m-%d)" --query password --output tsv)
printf %s "$secret" >client-secret

echo "tenant_id: $(az account show --query tenantId --output tsv)"
echo "client_id: $client"
echo "resource_id: $resource (in snowflake/setup.sql)"
echo "scope: api://$resource/.default (in broker.yaml)"
echo "client_secret: in the file client-secret; vault kv patch secret/pipelines/mssql_to_snowflake client_secret=@client-secret"
