// Snowflake's own Node driver judges the Snowflake stand-in; everything comes from the environment of `local-dev --judge`.
import assert from "node:assert/strict";
import crypto from "node:crypto";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { createRequire } from "node:module";

const require = createRequire(path.join(process.argv[2], "package.json"));
const snowflake = require("snowflake-sdk");
snowflake.configure({ logLevel: "OFF", additionalLogToConsole: false, disableOCSPChecks: true });

const env = (name) => process.env[`SNOWFLAKE_${name}`];
const place = {
  account: env("ACCOUNT"), accessUrl: env("URL"), role: env("ROLE"), warehouse: env("WAREHOUSE"),
  database: env("DATABASE"), schema: env("SCHEMA"), clientSessionKeepAlive: false, retryTimeout: 60,
};
const byToken = { ...place, username: env("USER"), authenticator: "OAUTH", token: env("TOKEN") };
const byKey = { ...place, username: env("KEY_USER"), authenticator: "SNOWFLAKE_JWT", privateKeyPath: env("PRIVATE_KEY_FILE") };

let misses = 0;
async function proof(topic, what, action) {
  try {
    await action();
    console.log(`proved  ${topic}: ${what}`);
  } catch (error) {
    misses += 1;
    console.log(`MISSED  ${topic}: ${what}: ${String(error.message).replace(/\s+/g, " ").slice(0, 1500)}`);
  }
}

const connect = (options) => new Promise((resolve, reject) => {
  const connection = snowflake.createConnection(options);
  connection.connect((error, ready) => (error ? reject(error) : resolve(ready)));
});
const run = (connection, sqlText, options = {}) => new Promise((resolve, reject) => {
  connection.execute({
    sqlText, ...options,
    complete: (error, statement, rows) => (error ? reject(error) : resolve({ statement, rows })),
  });
});
const rowsOf = async (connection, sqlText, options) => (await run(connection, sqlText, options)).rows;
const code = async (action) => {
  try {
    await action();
  } catch (error) {
    return [String(error.code), error.sqlState];
  }
  return ["no error"];
};
const end = (connection) => new Promise((resolve) => connection.destroy(() => resolve()));

const tag = `NODE_${crypto.randomBytes(5).toString("hex").toUpperCase()}`;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), "keyferry-node-"));
const session = await connect(byToken);
console.log("proved  login: an OAuth token that the broker gave");

await proof("login", "a key pair", async () => {
  const other = await connect(byKey);
  const [row] = await rowsOf(other, "SELECT CURRENT_USER() AS U");
  assert.equal(row.U, env("KEY_USER").toUpperCase());
  await end(other);
});
await proof("login", "a broken token is refused with 390303", async () => {
  const [found] = await code(() => connect({ ...byToken, token: `${env("TOKEN").slice(0, -8)}AAAAAAAA` }));
  assert.equal(found, "390303");
});

await proof("types", "numbers, text, booleans, times and NULL as JavaScript has them", async () => {
  const [row] = await rowsOf(session, `SELECT 42 AS I, -1.25::NUMBER(10,2) AS D, 0.5::FLOAT AS F, 'é 😀' AS T, TRUE AS B, NULL AS N,
    '2024-02-29'::DATE AS DAY, '2024-02-29 12:34:56.789'::TIMESTAMP_NTZ(3) AS AT, '12:00:01'::TIME AS TIM,
    TO_BINARY('00FF', 'HEX') AS X, PARSE_JSON('{"a":[1,2]}') AS V`);
  assert.deepEqual(
    [row.I, row.D, row.F, row.T, row.B, row.N, row.DAY.toISOString(), row.AT.getTime(), row.TIM, row.X.toString("hex"), row.V],
    [42, -1.25, 0.5, "é 😀", true, null, "2024-02-29T00:00:00.000Z", Date.UTC(2024, 1, 29, 12, 34, 56, 789), "12:00:01", "00ff",
      { a: [1, 2] }]);
});
await proof("types", "columns of a result", async () => {
  const { statement } = await run(session, "SELECT 1::NUMBER(5,2) AS A, 'x'::VARCHAR(7) AS B");
  const columns = statement.getColumns().map((column) => [column.getName(), column.getType(), column.getScale() ?? null]);
  assert.deepEqual(columns, [["A", "fixed", 2], ["B", "text", null]]);
});

await proof("statements", "DDL and the counts of changes", async () => {
  await run(session, `CREATE TABLE ${tag} (ID NUMBER(10,0), NAME VARCHAR, AT TIMESTAMP_NTZ(3))`);
  const counts = [];
  for (const sql of [
    `INSERT INTO ${tag} (ID, NAME) VALUES (1, 'a'), (2, 'b'), (3, 'c')`, `UPDATE ${tag} SET NAME = 'z' WHERE ID > 1`,
    `DELETE FROM ${tag} WHERE ID = 3`]) {
    counts.push((await run(session, sql)).statement.getNumUpdatedRows());
  }
  assert.deepEqual(counts, [3, 2, 1]);
});
await proof("bindings", "by position", async () => {
  const [row] = await rowsOf(session, "SELECT ? AS A, ? AS B, ? AS C, ? AS D", { binds: [7, "it's", null, true] });
  assert.deepEqual({ ...row }, { A: 7, B: "it's", C: null, D: true });
});
await proof("bindings", "many rows as arrays", async () => {
  const binds = Array.from({ length: 300 }, (_, at) => [at + 100, `n${at}`]);
  const { statement } = await run(session, `INSERT INTO ${tag} (ID, NAME) VALUES (?, ?)`, { binds });
  const [row] = await rowsOf(session, `SELECT COUNT(*) AS N, MAX(NAME) AS M FROM ${tag} WHERE ID >= 100`);
  assert.deepEqual([statement.getNumUpdatedRows(), row.N, row.M], [300, 300, "n99"]);
});
await proof("bindings", "many rows above the threshold, by a file on a stage", async () => {
  const other = await connect({ ...byToken, arrayBindingThreshold: 100 });
  const binds = Array.from({ length: 200 }, (_, at) => [at + 1000, `na"me, ${at}`]);
  await run(other, `INSERT INTO ${tag} (ID, NAME) VALUES (?, ?)`, { binds });
  const [row] = await rowsOf(other, `SELECT COUNT(*) AS N, MIN(NAME) AS M FROM ${tag} WHERE ID >= 1000`);
  assert.deepEqual([row.N, row.M], [200, 'na"me, 0']);
  await end(other);
});
await proof("several", "three statements in one request, a result for each", async () => {
  const found = await new Promise((resolve, reject) => {
    const firsts = [];
    session.execute({
      sqlText: "SELECT 1 AS A; SELECT 2 AS A; SELECT 3 AS A", parameters: { MULTI_STATEMENT_COUNT: 3 },
      complete: (error, statement, rows) => {
        if (error) return reject(error);
        firsts.push(rows[0].A);
        return statement.hasNext() ? statement.NextResult() : resolve(firsts);
      },
    });
  });
  assert.deepEqual(found, [1, 2, 3]);
});
for (const [what, sql, expected] of [
  ["a syntax error", "SELEC 1", ["001003", "42000"]],
  ["a missing table", "SELECT * FROM NO_SUCH_TABLE_HERE", ["002003", "42S02"]],
  ["a missing column", `SELECT NONE_SUCH FROM ${tag}`, ["000904", "42000"]],
  ["a division by zero", "SELECT 1 / 0", ["100051", "22012"]],
]) {
  await proof("errors", `${what} is ${expected}`, async () => assert.deepEqual(await code(() => run(session, sql)), expected));
}
await proof("transactions", "two sessions, ROLLBACK and COMMIT", async () => {
  const other = await connect(byToken);
  const count = async (connection) => (await rowsOf(connection, `SELECT COUNT(*) AS N FROM ${tag} WHERE ID = 50`))[0].N;
  await run(session, "BEGIN");
  await run(session, `INSERT INTO ${tag} (ID) VALUES (50)`);
  const found = [await count(session), await count(other)];
  await run(session, "ROLLBACK");
  found.push(await count(session));
  await run(session, "BEGIN");
  await run(session, `INSERT INTO ${tag} (ID) VALUES (50)`);
  await run(session, "COMMIT");
  found.push(await count(other));
  assert.deepEqual(found, [1, 0, 0, 1]);
  await end(other);
});
await proof("fetch", "a large result in parts, streamed in order", async () => {
  const sql = "SELECT SEQ4() AS N, 'row ' || SEQ4() AS T FROM TABLE(GENERATOR(ROWCOUNT => 120000)) ORDER BY N";
  const { statement } = await run(session, sql, { streamResult: true });
  let next = 0;
  await new Promise((resolve, reject) => {
    statement.streamRows().on("error", reject).on("end", resolve).on("data", (row) => {
      if (row.N === next && row.T === `row ${next}`) next += 1;
    });
  });
  assert.equal(next, 120000);
});
await proof("async", "a statement runs on and its rows are fetched by its id", async () => {
  const { statement } = await run(session, "SELECT SYSTEM$WAIT(200, 'MILLISECONDS') AS W, 42 AS N", { asyncExec: true });
  const id = statement.getQueryId();
  const running = session.isStillRunning(await session.getQueryStatus(id));
  const later = await session.getResultsFromQueryId({ sqlText: "", queryId: id });
  const found = await new Promise((resolve, reject) => {
    const rows = [];
    later.streamRows().on("error", reject).on("end", () => resolve(rows)).on("data", (row) => rows.push(row));
  });
  assert.deepEqual([running, found[0].N, await session.getQueryStatus(id)], [true, 42, "SUCCESS"]);
});
await proof("stop", "cancel ends a statement with 604", async () => {
  const found = await code(() => new Promise((resolve, reject) => {
    const statement = session.execute({
      sqlText: "SELECT SYSTEM$WAIT(60)", complete: (error, _, rows) => (error ? reject(error) : resolve(rows)),
    });
    const timer = setInterval(() => statement.cancel((error) => { if (!error) clearInterval(timer); }), 100);
  }));
  assert.equal(found[0], "000604");
});
await proof("put-get", "PUT encrypts and uploads, GET brings the same bytes", async () => {
  const bytes = crypto.randomBytes(50_000);
  fs.writeFileSync(path.join(folder, "node.bin"), bytes);
  fs.mkdirSync(path.join(folder, "down"));
  await run(session, `CREATE STAGE ${tag}_S`);
  const [put] = await rowsOf(session, `PUT 'file://${folder}/node.bin' @${tag}_S/x AUTO_COMPRESS = FALSE`);
  assert.equal(put.status, "UPLOADED");
  await rowsOf(session, `GET @${tag}_S/x 'file://${folder}/down/'`);
  assert.ok(fs.readFileSync(path.join(folder, "down", "node.bin")).equals(bytes), "the bytes differ");
});
await proof("copy", "COPY of a CSV that the driver packed, encrypted and sent", async () => {
  fs.writeFileSync(path.join(folder, "rows.csv"), "7001,from node\n7002,\n");
  await rowsOf(session, `PUT 'file://${folder}/rows.csv' @${tag}_S/csv`);
  const [loaded] = await rowsOf(session, `COPY INTO ${tag} (ID, NAME) FROM @${tag}_S/csv FILE_FORMAT = (TYPE = CSV)`);
  const rows = await rowsOf(session, `SELECT ID, NAME FROM ${tag} WHERE ID > 7000 ORDER BY ID`);
  assert.deepEqual([loaded.status, rows.map((row) => [row.ID, row.NAME])], ["LOADED", [[7001, "from node"], [7002, null]]]);
});
await proof("statements", "everything that was made is dropped", async () => {
  await run(session, `DROP TABLE ${tag}`);
  await run(session, `DROP STAGE ${tag}_S`);
});
await end(session);
fs.rmSync(folder, { recursive: true });
process.exit(misses ? 1 : 0);
