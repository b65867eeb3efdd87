-- Change tracking, for whoever also loads changes from this database: `mode: full` reads without it, and setup.sql leaves it out
-- for that. Run as sysadmin after setup.sql, with the same variables. A second time the first statement is error 5088, and
-- changes nothing. Each table then needs its own ALTER TABLE … ENABLE CHANGE_TRACKING.
USE [$(Database)];

-- Kept for longer than the longest pause between two loads: who comes later must load everything again.
ALTER DATABASE [$(Database)] SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS, AUTO_CLEANUP = ON);

-- Which rows changed, and nothing of what is in them.
GRANT VIEW CHANGE TRACKING ON SCHEMA::[$(Schema)] TO [$(Login)];
