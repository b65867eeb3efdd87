// tedious (a TDS client in JavaScript) against the SQL Server stand-in.
'use strict';

const fs = require('fs');
const path = require('path');
const { createRequire } = require('module');

const load = createRequire(path.join(process.env.JUDGE_MODULES, 'package.json'));
const { Connection, Request, TYPES, ISOLATION_LEVEL } = load('tedious');

const ME = 'td';
const { SQLSERVER_HOST, SQLSERVER_PORT, SQLSERVER_DATABASE, SQLSERVER_LOGIN, SQLSERVER_PASSWORD, SQLSERVER_CA } = process.env;
let missed = 0;

function same(topic, what, found, expected) {
  const [a, b] = [JSON.stringify(found), JSON.stringify(expected)];
  if (a === b) {
    console.log(`proved  ${topic}: ${what}`);
  } else {
    missed += 1;
    console.log(`MISSED  ${topic}: ${what}: found ${a}, expected ${b}`);
  }
}

async function proof(topic, what, check) {
  try {
    const [found, expected] = await check();
    same(topic, what, found, expected);
  } catch (error) {
    missed += 1;
    console.log(`MISSED  ${topic}: ${what}: ${error.name}: ${error.message}`.replace(/\n/g, ' '));
  }
}

function connect({ login, password, database, ...options } = {}) {
  return new Promise((resolve, reject) => {
    const connection = new Connection({
      server: SQLSERVER_HOST,
      authentication: { type: 'default', options: { userName: login ?? SQLSERVER_LOGIN, password: password ?? SQLSERVER_PASSWORD } },
      options: {
        port: Number(SQLSERVER_PORT),
        database: database ?? SQLSERVER_DATABASE,
        encrypt: true,
        trustServerCertificate: false,
        cryptoCredentialsDetails: { ca: fs.readFileSync(SQLSERVER_CA) },
        useUTC: true,
        requestTimeout: 60000,
        ...options,
      },
    });
    connection.on('error', () => {});
    connection.connect((error) => (error ? reject(error) : resolve(connection)));
  });
}

// The whole answer: results, counts, output parameters, return code, error.
function run(connection, sql, { method = 'execSqlBatch', prepare = () => {}, values } = {}) {
  return new Promise((resolve) => {
    const answer = { results: [], columns: [], counts: [], outputs: {}, status: null, error: null };
    let open = false;
    const request = new Request(sql, (error) => {
      answer.error = error ?? answer.error;
      resolve(answer);
    });
    // The first error is the cause; a later one only says that the request failed.
    request.on('error', (error) => { answer.error ??= error; });
    request.on('columnMetadata', (columns) => {
      answer.columns.push(columns.map((column) => column.colName));
      answer.results.push([]);
      open = true;
    });
    request.on('row', (row) => answer.results.at(-1).push(row.map((column) => [column.value, column.metadata.type.name, column.metadata])));
    const done = (count) => {
      if (!open && count !== undefined) {
        answer.counts.push(count);
      }
      open = false;
    };
    request.on('done', done);
    request.on('doneInProc', done);
    request.on('doneProc', (count, more, status) => { answer.status = status; });
    request.on('returnValue', (name, value) => { answer.outputs[name] = value; });
    prepare(request);
    if (method === 'execute') {
      connection.execute(request, values);
    } else {
      connection[method](request);
    }
  });
}

async function rows(connection, sql, options) {
  const answer = await run(connection, sql, { method: 'execSql', ...options });
  if (answer.error) {
    throw answer.error;
  }
  return answer.results.at(-1).map((row) => row.map(([value]) => value));
}

// ---- statements.txt

function cases() {
  const text = fs.readFileSync(path.join(__dirname, '..', 'statements.txt'), 'utf8');
  const found = [];
  for (const line of text.replaceAll('{me}', ME).replaceAll('{db}', SQLSERVER_DATABASE).split('\n')) {
    const head = /^## (\w+)(?: \[(.*)\])?: (.*)$/.exec(line);
    const last = found.at(-1);
    if (head) {
      found.push({ topic: head[1], tags: (head[2] ?? '').split(' '), what: head[3], sql: [], results: [], counts: [], error: null, next: true });
    } else if (!last) {
      continue;
    } else if (line === '>>') {
      last.next = true;
    } else if (line.startsWith('> ')) {
      if (last.next) {
        last.results.push([]);
        last.next = false;
      }
      if (line !== '> (none)') {
        last.results.at(-1).push(line.slice(2).split(' | '));
      }
    } else if (/^# \d+$/.test(line)) {
      last.counts.push(Number(line.slice(2)));
    } else if (/^! \d+ \d+ \d+ \d+ /.test(line)) {
      const [, number, severity, state, at, message] = /^! (\d+) (\d+) (\d+) (\d+) (.*)$/.exec(line);
      last.error = [Number(number), Number(severity), Number(state), Number(at), message];
    } else if (line.trim() && !line.startsWith('# ')) {
      last.sql.push(line);
    }
  }
  return found;
}

// A Date holds milliseconds; tedious keeps the rest beside it.
function moment(value, from, upto) {
  const nanoseconds = Math.round((value.nanosecondsDelta ?? 0) * 1e9);
  const iso = value.toISOString().replace(/^\+/, '').replace('T', ' ').replace('Z', '');
  const whole = `${iso}${String(nanoseconds).padStart(6, '0').slice(0, 4)}`.replace(/^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.(\d+)$/, (_, head, fraction) => {
    const rest = fraction.replace(/0+$/, '');
    return rest ? `${head}.${rest}` : head;
  });
  return whole.slice(from, upto);
}

function text([value, type, metadata]) {
  if (value === null || value === undefined) {
    return 'NULL';
  }
  if (typeof value === 'boolean') {
    return value ? '1' : '0';
  }
  if (Buffer.isBuffer(value)) {
    return `0x${value.toString('hex').toUpperCase()}`;
  }
  if (value instanceof Date) {
    if (type === 'Date') {
      return moment(value, 0, 10);
    }
    if (type === 'Time') {
      return moment(value, 11);
    }
    return moment(value, 0);
  }
  return value === '' ? "''" : String(value);
}

function agrees(cell, expected) {
  const [value] = cell;
  if (typeof value === 'number') {
    return expected !== 'NULL' && expected !== "''" && Number(expected) === value;
  }
  if (cell[1] === 'UniqueIdentifier' && value !== null) {
    return value.toUpperCase() === expected;
  }
  // A date inside a variant comes as a moment, like every other.
  return text(cell) === expected || (cell[1] === 'Variant' && text(cell) === `${expected} 00:00:00`);
}

function differs(one, answer) {
  const told = answer.error && [answer.error.number, answer.error.class, answer.error.state, answer.error.lineNumber, answer.error.message];
  if (told && !one.error) {
    return `found error ${JSON.stringify(told)}, expected none`;
  }
  if (one.error) {
    if (!told) {
      return `found no error, expected ${JSON.stringify(one.error)}`;
    }
    if (!one.error.every((part, at) => part === told[at] || (at === 3 && part === 0))) {
      return `found error ${JSON.stringify(told)}, expected ${JSON.stringify(one.error)}`;
    }
  }
  if (one.topic === 'setup') {
    return null;
  }
  const results = one.error ? answer.results.filter((rows) => rows.length) : answer.results;
  const right = results.length === one.results.length && results.every((rows, at) => {
    const wanted = one.results[at];
    return rows.length === wanted.length && rows.every((row, r) => row.length === wanted[r].length && row.every((cell, c) => agrees(cell, wanted[r][c])));
  });
  if (!right) {
    return `found ${JSON.stringify(results.map((rows) => rows.map((row) => row.map(text))))}, expected ${JSON.stringify(one.results)}`;
  }
  if (one.counts.length && JSON.stringify(answer.counts) !== JSON.stringify(one.counts)) {
    return `found counts ${answer.counts}, expected ${one.counts}`;
  }
  return null;
}

async function statements(connection) {
  // A number of JavaScript holds 15 digits, a Date no offset.
  const leftOut = ['offset', '38digits'];
  for (const one of cases()) {
    if (one.tags.some((tag) => leftOut.includes(tag))) {
      continue;
    }
    const problem = differs(one, await run(connection, one.sql.join('\n')));
    if (problem) {
      missed += 1;
      console.log(`MISSED  ${one.topic}: ${one.what}: ${problem}`);
    } else if (one.topic !== 'setup') {
      console.log(`proved  ${one.topic}: ${one.what}`);
    }
  }
}

// ---- what tedious has of its own

async function logins() {
  const ways = { 'encrypt: false': { encrypt: false }, 'encrypt: true': {}, 'encrypt: strict': { encrypt: 'strict' } };
  for (const [way, options] of Object.entries(ways)) {
    await proof('tls', `a SQL login with ${way}`, async () => {
      const connection = await connect(options);
      const [found] = await rows(connection, 'SELECT LOWER(SUSER_SNAME()), DB_NAME()');
      connection.close();
      return [found, [SQLSERVER_LOGIN.toLowerCase(), SQLSERVER_DATABASE]];
    });
  }
  const refused = (options) => connect(options).then((connection) => {
    connection.close();
    return 'no error';
  }, (error) => {
    const cause = error.cause ?? error.errors?.[0] ?? error;
    return cause.number ?? error.number ?? error.code;
  });
  await proof('login', 'a wrong password is ELOGIN', async () => [await refused({ password: 'wrong' }), 'ELOGIN']);
  await proof('login', 'an unknown database is ELOGIN', async () => [await refused({ database: 'nowhere' }), 'ELOGIN']);
  const another = fs.readFileSync(path.join(__dirname, '..', 'another-authority.pem'));
  await proof('tls', 'a certificate of another authority is refused by the client', async () => [
    (await refused({ cryptoCredentialsDetails: { ca: another } })) !== 'no error', true]);
}

async function parameters(connection) {
  const day = (value) => new Date(value);
  const values = [
    ['Bit', true], ['TinyInt', 255], ['SmallInt', -32768], ['Int', 2147483647], ['BigInt', '9223372036854775807'],
    ['Real', 1.5], ['Float', -1.25e300], ['SmallMoney', -214748.3648], ['Money', 1234.5678],
    ['Decimal', 12345.67, { precision: 18, scale: 2 }], ['Numeric', -0.001, { precision: 9, scale: 3 }],
    ['Char', 'ab  ', { length: 4 }], ['VarChar', 'Süd €'], ['NChar', 'ü   ', { length: 4 }], ['NVarChar', '東京 😀'], ['NVarChar', ''],
    ['NVarChar', 'ü'.repeat(9000)], ['VarChar', 'x'.repeat(9000)], ['Text', 'old text'], ['NText', 'old ü text'],
    ['Date', day('2024-02-29T00:00:00Z')], ['DateTime', day('2024-02-29T13:45:59.123Z')], ['SmallDateTime', day('2024-02-29T13:45:00Z')],
    ['DateTime2', day('9999-12-31T23:59:59.999Z'), { scale: 7 }], ['Time', day('1970-01-01T23:59:59.999Z'), { scale: 3 }],
    ['DateTimeOffset', day('2024-02-29T13:45:59.123Z'), { scale: 3 }],
    ['UniqueIdentifier', '6F9619FF-8B86-D011-B42D-00C04FC964FF'],
    ['VarBinary', Buffer.from([0, 255])], ['VarBinary', Buffer.alloc(9000, 7)], ['Binary', Buffer.from([1, 2]), { length: 2 }], ['Image', Buffer.from([3])],
    ['Int', null], ['NVarChar', null], ['VarBinary', null], ['DateTime2', null], ['Decimal', null],
  ];
  for (const [type, value, options] of values) {
    const shown = value === null ? 'NULL' : `${String(value).slice(0, 24)}`;
    await proof('parameters', `${type} ${shown}`, async () => {
      const sql = ['Text', 'NText', 'Image'].includes(type) ? 'SELECT @p' : 'SELECT @p WHERE @p = @p OR @p IS NULL';
      const [[found]] = await rows(connection, sql, { prepare: (request) => request.addParameter('p', TYPES[type], value, options) });
      return [found, value];
    });
  }
  await proof('parameters', 'output parameters come back', async () => {
    const answer = await run(connection, 'SET @b = @a * 2; SET @c = N\'said \' + CAST(@a AS nvarchar(5)); SELECT @a', {
      method: 'execSql',
      prepare: (request) => {
        request.addParameter('a', TYPES.Int, 21);
        request.addOutputParameter('b', TYPES.Int);
        request.addOutputParameter('c', TYPES.NVarChar, null, { length: 20 });
      },
    });
    return [[answer.error, answer.outputs], [null, { b: 42, c: 'said 21' }]];
  });
  await proof('parameters', 'sp_prepare, sp_execute and sp_unprepare', async () => {
    const request = new Request('SELECT @a + 1 AS next', () => {});
    request.addParameter('a', TYPES.Int);
    const found = [];
    const once = (event, start) => new Promise((resolve, reject) => {
      request.once(event, resolve);
      request.once('error', reject);
      start();
    });
    await once('prepared', () => connection.prepare(request));
    for (const a of [1, 41]) {
      request.removeAllListeners('row');
      request.on('row', ([column]) => found.push(column.value));
      await once('requestCompleted', () => connection.execute(request, { a }));
    }
    const handle = request.handle;
    await once('requestCompleted', () => connection.unprepare(request));
    return [[found, typeof handle], [[2, 42], 'number']];
  });
  await proof('parameters', 'a parameter that is declared and not given is 8178', async () => {
    const answer = await run(connection, 'sp_executesql', {
      method: 'callProcedure',
      prepare: (request) => {
        request.addParameter('stmt', TYPES.NVarChar, 'SELECT @a');
        request.addParameter('params', TYPES.NVarChar, '@a int');
      },
    });
    return [answer.error?.number, 8178];
  });
}

async function procedures(connection) {
  await run(connection, `CREATE PROCEDURE dbo.td_add @a int, @b nvarchar(20), @sum int OUTPUT, @said nvarchar(40) OUTPUT, @more decimal(9,2) = 1.25 AS
BEGIN
  SET NOCOUNT ON;
  SELECT @a AS a, @b AS b;
  SET @sum = @a + 1;
  SET @said = @b + N'!';
  SELECT @more AS more;
  RETURN -5;
END`);
  await proof('procedures', 'callProcedure: two results, output parameters, a default and the return code', async () => {
    const answer = await run(connection, 'dbo.td_add', {
      method: 'callProcedure',
      prepare: (request) => {
        request.addParameter('a', TYPES.Int, 41);
        request.addParameter('b', TYPES.NVarChar, 'hé');
        request.addOutputParameter('sum', TYPES.Int);
        request.addOutputParameter('said', TYPES.NVarChar, null, { length: 40 });
      },
    });
    const results = answer.results.map((result) => result.map((row) => row.map(([value]) => value)));
    return [[answer.error, results, answer.columns, answer.outputs, answer.status],
      [null, [[[41, 'hé']], [[1.25]]], [['a', 'b'], ['more']], { sum: 42, said: 'hé!' }, -5]];
  });
  await proof('procedures', 'an error in a procedure names it and its line', async () => {
    await run(connection, 'CREATE PROCEDURE dbo.td_fail AS\nBEGIN\n  SELECT 1 / 0;\nEND');
    const { error } = await run(connection, 'EXEC dbo.td_fail');
    await run(connection, 'DROP PROCEDURE dbo.td_fail, dbo.td_add');
    return [[error?.number, error?.procName, error?.lineNumber], [8134, 'td_fail', 3]];
  });
  await proof('procedures', 'one that is not there is 2812', async () => [(await run(connection, 'dbo.td_nothing', { method: 'callProcedure' })).error?.number, 2812]);
}

async function transactions(connection) {
  const call = (target, method, ...given) => new Promise((resolve, reject) => target[method]((error) => (error ? reject(error) : resolve()), ...given));
  await proof('transactions', 'transaction requests: begin, save, roll back to the savepoint, commit', async () => {
    await call(connection, 'beginTransaction', 'outermost', ISOLATION_LEVEL.READ_COMMITTED);
    await run(connection, "INSERT INTO dbo.td_depot (id, name) VALUES (70, N'kept')");
    await call(connection, 'saveTransaction', 'half');
    await run(connection, "INSERT INTO dbo.td_depot (id, name) VALUES (71, N'not kept')");
    await call(connection, 'rollbackTransaction', 'half');
    const [[open]] = await rows(connection, 'SELECT @@TRANCOUNT');
    await call(connection, 'commitTransaction');
    return [[open, await rows(connection, 'SELECT id FROM dbo.td_depot WHERE id >= 70')], [1, [[70]]]];
  });
  await proof('transactions', 'a rollback undoes tables as well as rows', async () => {
    await call(connection, 'beginTransaction');
    await run(connection, 'CREATE TABLE dbo.td_gone (id int); DELETE FROM dbo.td_depot WHERE id = 70');
    await call(connection, 'rollbackTransaction');
    return [await rows(connection, "SELECT OBJECT_ID('dbo.td_gone'), COUNT(*) FROM dbo.td_depot WHERE id = 70"), [[null, 1]]];
  });
  await proof('transactions', 'a lock that is held is 1222 after LOCK_TIMEOUT', async () => {
    const other = await connect();
    await call(connection, 'beginTransaction');
    await run(connection, "UPDATE dbo.td_depot SET name = N'mine' WHERE id = 70");
    const { error } = await run(other, "SET LOCK_TIMEOUT 50; UPDATE dbo.td_depot SET name = N'theirs' WHERE id = 70");
    await call(connection, 'rollbackTransaction');
    other.close();
    return [error?.number, 1222];
  });
  await proof('transactions', 'isolation level SNAPSHOT: a later change meets 3960', async () => {
    const other = await connect();
    await call(connection, 'beginTransaction', '', ISOLATION_LEVEL.SNAPSHOT);
    await rows(connection, 'SELECT COUNT(*) FROM dbo.td_depot');
    await run(other, "UPDATE dbo.td_depot SET name = N'newer' WHERE id = 70");
    const { error } = await run(connection, "UPDATE dbo.td_depot SET name = N'older' WHERE id = 70");
    other.close();
    return [error?.number, 3960];
  });
}

async function others(connection) {
  await proof('results', '50,000 rows arrive in order', async () => {
    let next = 1;
    await new Promise((resolve, reject) => {
      const request = new Request('SELECT value FROM GENERATE_SERIES(1, 50000)', (error) => (error ? reject(error) : resolve()));
      request.on('row', ([column]) => { next += column.value === next ? 1 : 0; });
      connection.execSqlBatch(request);
    });
    return [next, 50001];
  });
  await proof('results', 'PRINT and RAISERROR below 11 are messages', async () => {
    const messages = [];
    const hear = (message) => messages.push([message.number, message.class, message.message]);
    connection.on('infoMessage', hear);
    await run(connection, "PRINT N'hellö'; RAISERROR ('just %d', 10, 1, 5)");
    connection.off('infoMessage', hear);
    return [messages, [[0, 0, 'hellö'], [50000, 10, 'just 5']]];
  });
  await proof('time-outs', 'a request that is cancelled is ECANCEL, and the connection is of use', async () => {
    const code = await new Promise((resolve) => {
      const request = new Request("WAITFOR DELAY '00:00:30'", (error) => resolve(error?.code));
      connection.execSqlBatch(request);
      setTimeout(() => connection.cancel(), 100);
    });
    return [[code, await rows(connection, 'SELECT 7')], ['ECANCEL', [[7]]]];
  });
  await proof('time-outs', 'a request that takes too long is ETIMEOUT, and the connection is of use', async () => {
    const code = await new Promise((resolve) => {
      const request = new Request("WAITFOR DELAY '00:00:30'", (error) => resolve(error?.code));
      request.setTimeout(200);
      connection.execSqlBatch(request);
    });
    return [[code, await rows(connection, 'SELECT 8')], ['ETIMEOUT', [[8]]]];
  });
  await proof('results', 'a connection that is reset forgets its temporary tables and settings', async () => {
    await run(connection, 'CREATE TABLE #mine (id int); SET LOCK_TIMEOUT 5');
    await new Promise((resolve, reject) => connection.reset((error) => (error ? reject(error) : resolve())));
    return [await rows(connection, "SELECT OBJECT_ID('tempdb..#mine'), @@LOCK_TIMEOUT"), [[null, -1]]];
  });
  await proof('bulk', 'a bulk load of 1,000 rows', async () => {
    await run(connection, 'CREATE TABLE dbo.td_bulk (id int NOT NULL, v nvarchar(20) NULL, amount decimal(9,2) NULL, at datetime2(3) NULL)');
    const count = await new Promise((resolve, reject) => {
      const load = connection.newBulkLoad('dbo.td_bulk', (error, loaded) => (error ? reject(error) : resolve(loaded)));
      load.addColumn('id', TYPES.Int, { nullable: false });
      load.addColumn('v', TYPES.NVarChar, { length: 20, nullable: true });
      load.addColumn('amount', TYPES.Decimal, { precision: 9, scale: 2, nullable: true });
      load.addColumn('at', TYPES.DateTime2, { scale: 3, nullable: true });
      connection.execBulkLoad(load, Array.from({ length: 1000 }, (_, at) => [at, at === 5 ? null : `row ${at} ü`, at / 4, new Date(Date.UTC(2024, 0, 1))]));
    });
    const found = await rows(connection, 'SELECT COUNT(*), COUNT(v), MAX(id), SUM(amount), MAX(v) FROM dbo.td_bulk');
    await run(connection, 'DROP TABLE dbo.td_bulk');
    return [[count, found], [1000, [[1000, 999, 999, 124875, 'row 999 ü']]]];
  });
}

async function main() {
  await logins();
  const connection = await connect();
  await statements(connection);
  for (const part of [parameters, procedures, transactions, others]) {
    await part(connection);
  }
  connection.close();
  process.exit(missed ? 1 : 0);
}

main().catch((error) => {
  console.log(`MISSED  login: the judge goes on to its end: ${error.stack}`);
  process.exit(1);
});
