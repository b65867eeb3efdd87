#!/usr/bin/env node
// Orders by status, read with a token that the broker gave this user.
//
//     brokerctl exec reporting -- node report.js
//
// All settings come from the environment, as `brokerctl exec` makes it. NODE_EXTRA_CA_CERTS names another authority than
// the usual ones.
'use strict';

const fs = require('node:fs');
const snowflake = require('snowflake-sdk');

snowflake.configure({ logLevel: 'ERROR', additionalLogToConsole: false });

const env = process.env;
const tokenFile = env.SNOWFLAKE_TOKEN_FILE;

const connection = snowflake.createConnection({
  authenticator: 'OAUTH',
  token: tokenFile ? fs.readFileSync(tokenFile, 'utf8') : env.SNOWFLAKE_TOKEN,
  account: env.SNOWFLAKE_ACCOUNT,
  accessUrl: `https://${env.SNOWFLAKE_HOST}:${env.SNOWFLAKE_PORT || 443}`,
  username: env.SNOWFLAKE_USER,
  role: env.SNOWFLAKE_ROLE,
  warehouse: env.SNOWFLAKE_WAREHOUSE,
  database: 'RAW_ZONE',
  schema: 'SALES',
});

/** The rows of one statement. */
function rows(sqlText, binds = []) {
  return new Promise((resolve, reject) => {
    connection.execute({ sqlText, binds, complete: (error, _, found) => (error ? reject(error) : resolve(found)) });
  });
}

async function main() {
  await new Promise((resolve, reject) => connection.connect((error) => (error ? reject(error) : resolve())));
  const [who] = await rows('SELECT CURRENT_USER() AS U, CURRENT_ROLE() AS R');
  console.log(`connected as ${who.U} with role ${who.R}`);
  const found = await rows(
    'SELECT O_ORDERSTATUS AS S, COUNT(*) AS N, SUM(O_TOTALPRICE)::VARCHAR AS T FROM ORDERS WHERE O_TOTALPRICE > ? ' +
      'GROUP BY O_ORDERSTATUS ORDER BY O_ORDERSTATUS',
    [0],
  );
  for (const row of found) console.log(`${row.S} ${row.N} ${row.T}`);
  await new Promise((resolve) => connection.destroy(resolve));
}

main().catch((error) => {
  console.error(`report: ${error.code}: ${error.message}`);
  process.exitCode = 1;
});
