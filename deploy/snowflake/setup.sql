-- What the loader's role needs, and no more. Run as a role that may create databases, schemas and roles.
-- The ledger, the stage and the target tables are made by the loader under this role.
CREATE SCHEMA IF NOT EXISTS RAW_ZONE.SALES;
CREATE ROLE IF NOT EXISTS LOADER;
GRANT USAGE ON DATABASE RAW_ZONE TO ROLE LOADER;
GRANT USAGE, CREATE TABLE, CREATE STAGE ON SCHEMA RAW_ZONE.SALES TO ROLE LOADER;
