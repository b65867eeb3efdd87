-- Snowflake for one loader. Run as ACCOUNTADMIN (security integration, network policy, users, roles), with the variables
-- &tenant_id, &client_id, &resource_id (entra/setup.sh prints them) and &allowed_ips replaced. Every statement may run again.
CREATE DATABASE IF NOT EXISTS RAW_ZONE;
CREATE SCHEMA IF NOT EXISTS RAW_ZONE.SALES;
CREATE WAREHOUSE IF NOT EXISTS LOAD_WH WAREHOUSE_SIZE = 'XSMALL' AUTO_SUSPEND = 60 AUTO_RESUME = TRUE INITIALLY_SUSPENDED = TRUE;

-- Who issues the tokens: the tenant, and the application of deploy/entra that stands for Snowflake. A token of the loader's
-- application belongs to the user whose LOGIN_NAME is the claim.
CREATE SECURITY INTEGRATION IF NOT EXISTS KEYFERRY_ENTRA
  TYPE = EXTERNAL_OAUTH
  ENABLED = TRUE
  EXTERNAL_OAUTH_TYPE = AZURE
  EXTERNAL_OAUTH_ISSUER = 'https://sts.windows.net/&tenant_id/'
  EXTERNAL_OAUTH_JWS_KEYS_URL = 'https://login.microsoftonline.com/&tenant_id/discovery/v2.0/keys'
  EXTERNAL_OAUTH_AUDIENCE_LIST = ('api://&resource_id')
  EXTERNAL_OAUTH_TOKEN_USER_MAPPING_CLAIM = 'appid'
  EXTERNAL_OAUTH_SNOWFLAKE_USER_MAPPING_ATTRIBUTE = 'LOGIN_NAME'
  EXTERNAL_OAUTH_ANY_ROLE_MODE = 'ENABLE';

-- What the loader's role needs, and no more. The ledger, the stage and the staging tables are made by the loader under
-- this role, and so belong to it; a target that is there already needs the last grant.
CREATE ROLE IF NOT EXISTS LOADER;
GRANT USAGE ON WAREHOUSE LOAD_WH TO ROLE LOADER;
GRANT USAGE ON DATABASE RAW_ZONE TO ROLE LOADER;
GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA RAW_ZONE.SALES TO ROLE LOADER;
-- GRANT SELECT, INSERT, DELETE ON TABLE RAW_ZONE.SALES.CUSTOMERS TO ROLE LOADER;

-- A service user: no password, no multi-factor, tokens only. The broker sends LOGIN_NAME (the Vault field sf_user).
CREATE USER IF NOT EXISTS SVC_LOADER TYPE = SERVICE LOGIN_NAME = '&client_id' DEFAULT_ROLE = LOADER DEFAULT_WAREHOUSE = LOAD_WH;
GRANT ROLE LOADER TO USER SVC_LOADER;

-- Where it may come from: the addresses that the pods go out by. With PrivateLink a network rule of TYPE = AWSVPCEID or
-- AZURELINKID with the end point's id is tighter.
CREATE NETWORK POLICY IF NOT EXISTS KEYFERRY ALLOWED_IP_LIST = (&allowed_ips);
ALTER USER SVC_LOADER SET NETWORK_POLICY = KEYFERRY;
