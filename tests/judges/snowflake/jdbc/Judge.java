import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.*;
import java.util.*;
import net.snowflake.client.core.QueryStatus;
import net.snowflake.client.jdbc.SnowflakeConnection;
import net.snowflake.client.jdbc.SnowflakeResultSet;
import net.snowflake.client.jdbc.SnowflakeStatement;

/** Snowflake's own JDBC driver judges the Snowflake stand-in; everything comes from the environment of `local-dev --judge`. */
public final class Judge {
    private static int misses;

    interface Action { void run() throws Exception; }

    static void proof(String topic, String what, Action action) {
        try {
            action.run();
            System.out.println("proved  " + topic + ": " + what);
        } catch (Throwable error) {
            misses++;
            System.out.println("MISSED  " + topic + ": " + what + ": " + String.valueOf(error).replaceAll("\\s+", " "));
        }
    }

    static void same(Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError("found " + found + ", expected " + expected);
        }
    }

    static String env(String name) {
        return System.getenv("SNOWFLAKE_" + name);
    }

    static Connection connect(Map<String, String> own) throws SQLException {
        Properties all = new Properties();
        for (String name : List.of("ROLE", "WAREHOUSE", "DATABASE", "SCHEMA", "ACCOUNT")) {
            all.put(name.equals("DATABASE") ? "db" : name.toLowerCase(Locale.ROOT), env(name));
        }
        all.put("disableOCSPChecks", "true");
        all.put("loginTimeout", "20");
        all.put("networkTimeout", "60000");
        all.putAll(own);
        return DriverManager.getConnection("jdbc:snowflake://" + env("URL").replace("https://", ""), all);
    }

    static Map<String, String> token() {
        return new HashMap<>(Map.of("user", env("USER"), "authenticator", "oauth", "token", env("TOKEN")));
    }

    static Map<String, String> keyPair() {
        return new HashMap<>(Map.of(
            "user", env("KEY_USER"), "authenticator", "snowflake_jwt", "private_key_file", env("PRIVATE_KEY_FILE")));
    }

    static Object one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getObject(1);
        }
    }

    static long count(Connection connection, String sql) throws SQLException {
        return ((Number) one(connection, sql)).longValue();
    }

    static int change(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            return statement.executeUpdate(sql);
        }
    }

    static List<Object> refusal(Action action) throws Exception {
        try {
            action.run();
        } catch (SQLException error) {
            return List.of(error.getErrorCode(), String.valueOf(error.getSQLState()));
        }
        return List.of("no error");
    }

    public static void main(String[] arguments) throws Exception {
        String table = "JDBC_" + UUID.randomUUID().toString().substring(0, 8).toUpperCase(Locale.ROOT);
        Connection connection = connect(token());
        System.out.println("proved  login: an OAuth token that the broker gave");
        proof("login", "a key pair", () -> {
            try (Connection other = connect(keyPair())) {
                same(one(other, "SELECT CURRENT_USER()"), env("KEY_USER").toUpperCase(Locale.ROOT));
            }
        });
        proof("login", "a broken token is refused with 390303", () -> {
            Map<String, String> broken = token();
            broken.put("token", env("TOKEN").substring(0, env("TOKEN").length() - 8) + "AAAAAAAA");
            same(refusal(() -> connect(broken)).get(0), 390303);
        });
        for (String form : List.of("ARROW", "JSON")) {
            types(connection, form);
        }
        statements(connection, table);
        transactions(connection, table);
        fetching(connection);
        files(connection, table);
        proof("statements", "everything that was made is dropped", () -> {
            change(connection, "DROP TABLE " + table);
            change(connection, "DROP STAGE " + table + "_S");
        });
        connection.close();
        System.exit(misses > 0 ? 1 : 0);
    }

    static void types(Connection connection, String form) {
        proof("types", "eleven types by " + form, () -> {
            change(connection, "ALTER SESSION SET JDBC_QUERY_RESULT_FORMAT = '" + form + "'");
            String sql = "SELECT 42, -1234567890.12::NUMBER(12,2), 99999999999999999999999999999999999999::NUMBER(38,0), 0.1::FLOAT, "
                + "'\u00e9 \ud83d\ude00', TRUE, NULL::NUMBER(5,0), '1969-12-31'::DATE, '12:00:01'::TIME(0), "
                + "'2024-02-29 12:34:56.123456789'::TIMESTAMP_NTZ(9), TO_BINARY('00FF', 'HEX'), "
                + "'2024-01-02 03:04:05 +0200'::TIMESTAMP_TZ(3)";
            try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
                row.next();
                same(row.getInt(1), 42);
                same(row.getBigDecimal(2), new BigDecimal("-1234567890.12"));
                same(row.getBigDecimal(3).toPlainString(), "9".repeat(38));
                same(row.getDouble(4), 0.1);
                same(row.getString(5), "\u00e9 \ud83d\ude00");
                same(row.getBoolean(6), true);
                same(row.getObject(7), null);
                same(row.wasNull(), true);
                same(row.getDate(8).toString(), "1969-12-31");
                same(row.getTime(9).toString(), "12:00:01");
                same(row.getTimestamp(10, Calendar.getInstance(TimeZone.getTimeZone("UTC"))).getNanos(), 123456789);
                same(HexFormat.of().formatHex(row.getBytes(11)), "00ff");
                same(row.getTimestamp(12).toInstant().toString(), "2024-01-02T01:04:05Z");
                ResultSetMetaData meta = row.getMetaData();
                same(List.of(meta.getColumnType(2), meta.getPrecision(2), meta.getScale(2)), List.of(Types.DECIMAL, 12, 2));
                same(meta.getColumnTypeName(10), "TIMESTAMPNTZ");
            }
        });
    }

    static void statements(Connection connection, String table) {
        proof("statements", "DDL and the counts of changes", () -> {
            change(connection, "CREATE TABLE " + table + " (ID NUMBER(10,0), NAME VARCHAR, AT TIMESTAMP_NTZ(3))");
            same(List.of(
                change(connection, "INSERT INTO " + table + " (ID, NAME) VALUES (1, 'a'), (2, 'b'), (3, 'c')"),
                change(connection, "UPDATE " + table + " SET NAME = 'z' WHERE ID > 1"),
                change(connection, "DELETE FROM " + table + " WHERE ID = 3")), List.of(3, 2, 1));
        });
        proof("bindings", "a prepared statement, described first", () -> {
            String sql = "SELECT ID, NAME FROM " + table + " WHERE ID = ? AND NAME = ?";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                same(statement.getMetaData().getColumnCount(), 2);
                same(statement.getParameterMetaData().getParameterCount(), 2);
                statement.setInt(1, 2);
                statement.setString(2, "z");
                try (ResultSet rows = statement.executeQuery()) {
                    rows.next();
                    same(rows.getString(2), "z");
                }
            }
        });
        proof("bindings", "a batch of 300 rows with NULLs and timestamps", () -> {
            String sql = "INSERT INTO " + table + " (ID, NAME, AT) VALUES (?, ?, ?)";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                for (int at = 0; at < 300; at++) {
                    statement.setInt(1, 100 + at);
                    if (at % 7 == 0) statement.setNull(2, Types.VARCHAR);
                    else statement.setString(2, "n\"a, " + at);
                    statement.setTimestamp(3, Timestamp.from(java.time.Instant.parse("2024-02-29T12:34:56.789Z")));
                    statement.addBatch();
                }
                same(Arrays.stream(statement.executeBatch()).sum(), 300);
            }
            same(count(connection, "SELECT COUNT(*) FROM " + table + " WHERE ID >= 100 AND NAME IS NULL"), 43L);
            same(count(connection, "SELECT COUNT(DISTINCT AT) FROM " + table + " WHERE ID >= 100"), 1L);
        });
        proof("bindings", "a batch above the threshold, by a file on a stage", () -> {
            change(connection, "ALTER SESSION SET CLIENT_STAGE_ARRAY_BINDING_THRESHOLD = 100");
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO " + table + " (ID, NAME) VALUES (?, ?)")) {
                for (int at = 0; at < 200; at++) {
                    statement.setInt(1, 1000 + at);
                    statement.setString(2, "n\"a, " + at);
                    statement.addBatch();
                }
                same(Arrays.stream(statement.executeBatch()).sum(), 200);
            }
            same(one(connection, "SELECT MIN(NAME) FROM " + table + " WHERE ID >= 1000"), "n\"a, 0");
        });
        proof("several", "three statements in one request, a result for each", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.unwrap(SnowflakeStatement.class).setParameter("MULTI_STATEMENT_COUNT", 3);
                List<Integer> found = new ArrayList<>();
                boolean more = statement.execute("SELECT 1; SELECT 2; SELECT 3");
                while (more) {
                    try (ResultSet rows = statement.getResultSet()) {
                        rows.next();
                        found.add(rows.getInt(1));
                    }
                    more = statement.getMoreResults();
                }
                same(found, List.of(1, 2, 3));
            }
        });
        Map<String, List<Object>> errors = new LinkedHashMap<>();
        errors.put("SELEC 1", List.of(1003, "42000"));
        errors.put("SELECT * FROM NO_SUCH_TABLE_HERE", List.of(2003, "42S02"));
        errors.put("SELECT NONE_SUCH FROM " + table, List.of(904, "42000"));
        errors.put("SELECT 1 / 0", List.of(100051, "22012"));
        errors.put("SELECT 'abc'::NUMBER", List.of(100038, "22018"));
        errors.forEach((sql, expected) -> proof("errors", sql.replace(table, "a table") + " is " + expected,
            () -> same(refusal(() -> one(connection, sql)), expected)));
        proof("metadata", "DatabaseMetaData names tables and columns", () -> {
            try (ResultSet rows = connection.getMetaData().getColumns(env("DATABASE"), env("SCHEMA"), table, null)) {
                List<String> found = new ArrayList<>();
                while (rows.next()) found.add(rows.getString("COLUMN_NAME") + " " + rows.getInt("DATA_TYPE"));
                same(found, List.of("ID " + Types.BIGINT, "NAME " + Types.VARCHAR, "AT " + Types.TIMESTAMP));
            }
            try (ResultSet rows = connection.getMetaData().getTables(env("DATABASE"), env("SCHEMA"), table, null)) {
                same(rows.next() ? rows.getString("TABLE_TYPE") : "none", "TABLE");
            }
        });
        proof("stop", "setQueryTimeout ends a statement with 604", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                List<Object> found = refusal(() -> statement.executeQuery("SELECT SYSTEM$WAIT(60)"));
                same(found.get(0).equals(604) || found.get(0).equals(630), true);
            }
        });
    }

    static void transactions(Connection connection, String table) {
        proof("transactions", "setAutoCommit(false), rollback, commit, and what another session sees", () -> {
            String sql = "SELECT COUNT(*) FROM " + table + " WHERE ID = 50";
            String insert = "INSERT INTO " + table + " (ID) VALUES (50)";
            try (Connection other = connect(token())) {
                connection.setAutoCommit(false);
                change(connection, insert);
                List<Long> found = new ArrayList<>(List.of(count(connection, sql), count(other, sql)));
                connection.rollback();
                found.add(count(connection, sql));
                change(connection, insert);
                connection.commit();
                found.add(count(other, sql));
                connection.setAutoCommit(true);
                same(found, List.of(1L, 0L, 0L, 1L));
            }
        });
    }

    static void fetching(Connection connection) {
        for (String form : List.of("ARROW", "JSON")) {
            proof("fetch", "120000 rows in several parts, in their order, by " + form, () -> {
                change(connection, "ALTER SESSION SET JDBC_QUERY_RESULT_FORMAT = '" + form + "'");
                String sql = "SELECT SEQ4() AS N, 'row ' || SEQ4() AS T FROM TABLE(GENERATOR(ROWCOUNT => 120000)) ORDER BY N";
                try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
                    int next = 0;
                    while (rows.next()) {
                        if (rows.getInt(1) == next && rows.getString(2).equals("row " + next)) next++;
                    }
                    same(next, 120000);
                }
            });
        }
        proof("async", "a statement runs on and its rows are fetched by its id", () -> {
            try (Statement statement = connection.createStatement()) {
                ResultSet later = statement.unwrap(SnowflakeStatement.class)
                    .executeAsyncQuery("SELECT SYSTEM$WAIT(200, 'MILLISECONDS'), 42");
                String id = later.unwrap(SnowflakeResultSet.class).getQueryID();
                try (ResultSet rows = connection.unwrap(SnowflakeConnection.class).createResultSet(id)) {
                    rows.next();
                    same(rows.getInt(2), 42);
                    same(rows.unwrap(SnowflakeResultSet.class).getStatus(), QueryStatus.SUCCESS);
                }
            }
        });
    }

    static void files(Connection connection, String table) {
        proof("put-get", "PUT encrypts and uploads, GET brings the same bytes", () -> {
            Path folder = Files.createTempDirectory("keyferry-jdbc");
            byte[] bytes = new byte[50_000];
            new Random(5).nextBytes(bytes);
            Files.write(folder.resolve("jdbc.bin"), bytes);
            Files.createDirectory(folder.resolve("down"));
            change(connection, "CREATE STAGE " + table + "_S");
            try (Statement statement = connection.createStatement()) {
                try (ResultSet rows = statement.executeQuery(
                    "PUT 'file://" + folder + "/jdbc.bin' @" + table + "_S/x AUTO_COMPRESS = FALSE")) {
                    rows.next();
                    same(rows.getString("status"), "UPLOADED");
                }
                statement.executeQuery("GET @" + table + "_S/x 'file://" + folder + "/down/'").close();
            }
            same(Arrays.equals(Files.readAllBytes(folder.resolve("down/jdbc.bin")), bytes), true);
        });
        proof("copy", "COPY of a CSV that the driver packed, encrypted and sent", () -> {
            Path folder = Files.createTempDirectory("keyferry-jdbc");
            Files.writeString(folder.resolve("rows.csv"), "7001,from java\n7002,\n");
            try (Statement statement = connection.createStatement()) {
                statement.executeQuery("PUT 'file://" + folder + "/rows.csv' @" + table + "_S/csv").close();
                try (ResultSet rows = statement.executeQuery(
                    "COPY INTO " + table + " (ID, NAME) FROM @" + table + "_S/csv FILE_FORMAT = (TYPE = CSV)")) {
                    rows.next();
                    same(rows.getString("status"), "LOADED");
                }
            }
            same(one(connection, "SELECT NAME FROM " + table + " WHERE ID = 7001"), "from java");
        });
    }
}
