-- SQL Server for one loader. Run as sysadmin with sqlcmd: -v Database=SalesDB Login="CORP\svc_loader" Schema=dbo
-- Every statement may run again but CREATE.

-- The account of Active Directory; SQL Server holds no password for it.
CREATE LOGIN [$(Login)] FROM WINDOWS;
USE [$(Database)];
CREATE USER [$(Login)] FOR LOGIN [$(Login)];

-- What it reads, and no more: one schema, its definitions, the sizes of its tables. It writes nothing.
GRANT SELECT ON SCHEMA::[$(Schema)] TO [$(Login)];
GRANT VIEW DATABASE STATE TO [$(Login)];

-- Each chunk is one SNAPSHOT transaction: readers wait for nobody, and nobody for them. Versions go to tempdb.
ALTER DATABASE [$(Database)] SET ALLOW_SNAPSHOT_ISOLATION ON;

-- Change tracking is not needed: `mode: full` is the only mode that there is. change-tracking.sql has it all the same.
