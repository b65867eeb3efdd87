// mssql-jdbc (Microsoft's own driver for Java) against the SQL Server stand-in.

import com.microsoft.sqlserver.jdbc.SQLServerBulkCopy;
import com.microsoft.sqlserver.jdbc.SQLServerBulkCopyOptions;
import com.microsoft.sqlserver.jdbc.SQLServerConnection;
import com.microsoft.sqlserver.jdbc.SQLServerException;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.math.BigDecimal;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.Date;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.sql.Time;
import java.sql.Timestamp;
import java.sql.Types;
import java.time.LocalDate;
import java.time.LocalDateTime;
import java.time.LocalTime;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

public class Judge {
    static final String ME = "jd";
    static final Map<String, String> ENV = System.getenv();
    static int missed = 0;

    interface Check {
        Object[] run() throws Exception;
    }

    static void proof(String topic, String what, Check check) {
        try {
            Object[] pair = check.run();
            if (Objects.deepEquals(pair[0], pair[1])) {
                System.out.println("proved  " + topic + ": " + what);
                return;
            }
            miss(topic, what, "found " + show(pair[0]) + ", expected " + show(pair[1]));
        } catch (Exception error) {
            miss(topic, what, error.getClass().getSimpleName() + ": " + error.getMessage());
        }
    }

    static String show(Object value) {
        return value instanceof Object[] ? Arrays.deepToString((Object[]) value) : String.valueOf(value);
    }

    static void miss(String topic, String what, String detail) {
        missed++;
        System.out.println("MISSED  " + topic + ": " + what + ": " + detail.replace('\n', ' '));
    }

    static Object[] pair(Object found, Object expected) {
        return new Object[] {found, expected};
    }

    static List<Object> list(Object... values) {
        return new ArrayList<>(Arrays.asList(values));
    }

    // ---- connections

    static String store(String pem) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(null, null);
        try (FileInputStream in = new FileInputStream(pem)) {
            store.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(in));
        }
        Path file = Files.createTempFile("judge", ".p12");
        file.toFile().deleteOnExit();
        try (FileOutputStream out = new FileOutputStream(file.toFile())) {
            store.store(out, "changeit".toCharArray());
        }
        return file.toString();
    }

    static String trusted;

    static Connection connect(String... settings) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("databaseName", ENV.get("SQLSERVER_DATABASE"));
        properties.setProperty("user", ENV.get("SQLSERVER_LOGIN"));
        properties.setProperty("password", ENV.get("SQLSERVER_PASSWORD"));
        properties.setProperty("encrypt", "true");
        properties.setProperty("trustStore", trusted);
        properties.setProperty("trustStoreType", "PKCS12");
        properties.setProperty("trustStorePassword", "changeit");
        properties.setProperty("lastUpdateCount", "false");
        properties.setProperty("sendTimeAsDatetime", "false");
        properties.setProperty("connectRetryCount", "0");
        properties.setProperty("loginTimeout", "20");
        for (int at = 0; at < settings.length; at += 2) {
            if (settings[at + 1] == null) {
                properties.remove(settings[at]);
            } else {
                properties.setProperty(settings[at], settings[at + 1]);
            }
        }
        return DriverManager.getConnection(
            "jdbc:sqlserver://" + ENV.get("SQLSERVER_HOST") + ":" + ENV.get("SQLSERVER_PORT"), properties);
    }

    static Object one(Connection connection, String sql) throws SQLException {
        try (Statement statement = connection.createStatement(); ResultSet rows = statement.executeQuery(sql)) {
            rows.next();
            return rows.getObject(1);
        }
    }

    static int refused(String... settings) {
        try (Connection connection = connect(settings)) {
            return 0;
        } catch (SQLException error) {
            return error.getErrorCode() == 0 ? -1 : error.getErrorCode();
        }
    }

    static void logins() throws Exception {
        String login = ENV.get("SQLSERVER_LOGIN").toLowerCase();
        for (String encrypt : new String[] {"false", "true", "strict"}) {
            proof("tls", "a SQL login with encrypt=" + encrypt, () -> {
                try (Connection connection = connect("encrypt", encrypt)) {
                    return pair(one(connection, "SELECT LOWER(SUSER_SNAME())"), login);
                }
            });
        }
        proof("login", "packets of 512 and of 16,384 bytes", () -> {
            int total = 0;
            for (String size : new String[] {"512", "16384"}) {
                try (Connection connection = connect("packetSize", size)) {
                    total += ((String) one(connection, "SELECT REPLICATE(CAST('x' AS varchar(max)), 70000)")).length();
                }
            }
            return pair(total, 140000);
        });
        proof("login", "a wrong password is 18456", () -> pair(refused("password", "wrong"), 18456));
        proof("login", "an unknown login is 18456", () -> pair(refused("user", "nobody"), 18456));
        proof("login", "an unknown database is 4060", () -> pair(refused("databaseName", "nowhere"), 4060));
        String other = store(ENV.get("JUDGE_ANOTHER_CA"));
        proof("tls", "a certificate of another authority is refused by the client", () ->
            pair(refused("trustStore", other), -1));
        for (String encrypt : new String[] {"false", "true", "strict"}) {
            proof("kerberos", "a ticket logs in by JAAS with encrypt=" + encrypt, () -> {
                try (Connection connection = connect("encrypt", encrypt, "user", null, "password", null,
                        "integratedSecurity", "true", "authenticationScheme", "JavaKerberos",
                        "serverSpn", ENV.get("SQLSERVER_SPN"))) {
                    String name = (String) one(connection, "SELECT LOWER(SUSER_SNAME())");
                    return pair(name, "keyferry\\" + ENV.get("KRB5_PRINCIPAL").split("@")[0].toLowerCase());
                }
            });
        }
    }

    // ---- statements.txt

    static class Case {
        String topic, what, tags;
        StringBuilder sql = new StringBuilder();
        List<List<String[]>> results = new ArrayList<>();
        List<Integer> counts = new ArrayList<>();
        Object[] error;
        boolean next = true;
    }

    static List<Case> cases() throws Exception {
        Pattern head = Pattern.compile("## (\\w+)(?: \\[(.*)\\])?: (.*)");
        Pattern error = Pattern.compile("! (\\d+) (\\d+) (\\d+) (\\d+) (.*)");
        List<Case> found = new ArrayList<>();
        String text = Files.readString(Path.of(ENV.get("JUDGE_STATEMENTS")));
        for (String line : text.replace("{me}", ME).replace("{db}", ENV.get("SQLSERVER_DATABASE")).split("\n")) {
            Matcher begins = head.matcher(line);
            Matcher fails = error.matcher(line);
            if (begins.matches()) {
                Case one = new Case();
                one.topic = begins.group(1);
                one.tags = String.valueOf(begins.group(2));
                one.what = begins.group(3);
                found.add(one);
                continue;
            }
            if (found.isEmpty()) {
                continue;
            }
            Case last = found.get(found.size() - 1);
            if (line.equals(">>")) {
                last.next = true;
            } else if (line.startsWith("> ")) {
                if (last.next) {
                    last.results.add(new ArrayList<>());
                    last.next = false;
                }
                if (!line.equals("> (none)")) {
                    last.results.get(last.results.size() - 1).add(line.substring(2).split(Pattern.quote(" | "), -1));
                }
            } else if (line.matches("# \\d+")) {
                last.counts.add(Integer.parseInt(line.substring(2)));
            } else if (fails.matches()) {
                last.error = new Object[] {Integer.parseInt(fails.group(1)), Integer.parseInt(fails.group(2)),
                    Integer.parseInt(fails.group(3)), Integer.parseInt(fails.group(4)), fails.group(5)};
            } else if (!line.isBlank() && !line.startsWith("# ")) {
                last.sql.append(last.sql.length() == 0 ? "" : "\n").append(line);
            }
        }
        return found;
    }

    static String hex(byte[] bytes) {
        StringBuilder out = new StringBuilder("0x");
        for (byte one : bytes) {
            out.append(String.format("%02X", one));
        }
        return out.toString();
    }

    static String clock(LocalTime time) {
        String fraction = String.format(".%09d", time.getNano()).replaceAll("0+$", "").replaceAll("\\.$", "");
        return String.format("%02d:%02d:%02d", time.getHour(), time.getMinute(), time.getSecond()) + fraction;
    }

    static String day(LocalDate date) {
        return String.format("%04d-%02d-%02d", date.getYear(), date.getMonthValue(), date.getDayOfMonth());
    }

    // A column as the types of java.time hold it: java.sql's know neither 100 ns nor the old calendar.
    static String text(ResultSet rows, int at) throws SQLException {
        Object value = rows.getObject(at);
        if (value == null) {
            return "NULL";
        }
        if (value instanceof Boolean) {
            return (Boolean) value ? "1" : "0";
        }
        if (value instanceof byte[]) {
            return hex((byte[]) value);
        }
        if (value instanceof BigDecimal) {
            return ((BigDecimal) value).toPlainString();
        }
        String type = rows.getMetaData().getColumnTypeName(at);
        if (type.equals("sql_variant")) {
            return value.toString();
        }
        if (type.equals("date") || value instanceof Date) {
            return day(rows.getObject(at, LocalDate.class));
        }
        if (type.equals("time") || value instanceof Time) {
            return clock(rows.getObject(at, LocalTime.class));
        }
        if (type.equals("datetimeoffset")) {
            OffsetDateTime moment = rows.getObject(at, OffsetDateTime.class);
            return day(moment.toLocalDate()) + " " + clock(moment.toLocalTime()) + " " + moment.getOffset().getId().replace("Z", "+00:00");
        }
        if (value instanceof Timestamp) {
            LocalDateTime moment = rows.getObject(at, LocalDateTime.class);
            return day(moment.toLocalDate()) + " " + clock(moment.toLocalTime());
        }
        return value.equals("") ? "''" : value.toString();
    }

    static boolean agrees(String found, Object value, String expected) {
        if (value instanceof Double || value instanceof Float) {
            return !expected.equals("NULL") && Double.parseDouble(found) == Double.parseDouble(expected);
        }
        return found.equals(expected);
    }

    static void statements(Connection connection) throws Exception {
        for (Case one : cases()) {
            List<List<String>> results = new ArrayList<>();
            List<Integer> counts = new ArrayList<>();
            Object[] error = null;
            boolean same = true;
            try (Statement statement = connection.createStatement()) {
                boolean rows = statement.execute(one.sql.toString());
                while (true) {
                    if (rows) {
                        int place = results.size();
                        List<String> shown = new ArrayList<>();
                        results.add(shown);
                        try (ResultSet set = statement.getResultSet()) {
                            int width = set.getMetaData().getColumnCount();
                            while (set.next()) {
                                List<String> row = new ArrayList<>();
                                for (int at = 1; at <= width; at++) {
                                    String text = text(set, at);
                                    row.add(text);
                                    String wanted = place < one.results.size() && shown.size() < one.results.get(place).size()
                                            && at <= one.results.get(place).get(shown.size()).length
                                        ? one.results.get(place).get(shown.size())[at - 1] : null;
                                    same &= wanted != null && agrees(text, set.getObject(at), wanted);
                                }
                                shown.add(String.join(" | ", row));
                            }
                        }
                    } else if (statement.getUpdateCount() >= 0) {
                        // The driver tells 0 for statements that define something.
                        if (statement.getUpdateCount() > 0) {
                            counts.add(statement.getUpdateCount());
                        }
                    } else {
                        break;
                    }
                    rows = statement.getMoreResults();
                }
            } catch (SQLServerException raised) {
                var told = raised.getSQLServerError();
                error = told == null ? new Object[] {0, 0, 0, 0, raised.getMessage()}
                    : new Object[] {told.getErrorNumber(), told.getErrorSeverity(), told.getErrorState(),
                        (int) told.getLineNumber(), told.getErrorMessage()};
            } catch (Exception raised) {
                error = new Object[] {0, 0, 0, 0, raised.toString()};
            }
            judge(one, results, counts, error, same);
        }
    }

    static void judge(Case one, List<List<String>> results, List<Integer> counts, Object[] error, boolean same) {
        if (one.error != null && error != null && one.error[3].equals(0)) {
            error[3] = 0;
        }
        List<List<String>> wanted = new ArrayList<>();
        for (List<String[]> rows : one.results) {
            List<String> shown = new ArrayList<>();
            rows.forEach(row -> shown.add(String.join(" | ", row)));
            wanted.add(shown);
        }
        if (one.error != null) {
            results.removeIf(List::isEmpty);
        }
        boolean sizes = results.size() == wanted.size();
        for (int at = 0; sizes && at < wanted.size(); at++) {
            sizes = results.get(at).size() == wanted.get(at).size();
        }
        if (!Arrays.equals(one.error, error)) {
            miss(one.topic, one.what, "found error " + Arrays.toString(error) + ", expected " + Arrays.toString(one.error));
        } else if (one.topic.equals("setup")) {
            return;
        } else if (!sizes || !same) {
            miss(one.topic, one.what, "found " + results + ", expected " + wanted);
        } else if (!one.counts.isEmpty() && !one.counts.equals(counts)) {
            miss(one.topic, one.what, "found counts " + counts + ", expected " + one.counts);
        } else {
            System.out.println("proved  " + one.topic + ": " + one.what);
        }
    }

    // ---- what JDBC has of its own

    static void parameters(Connection connection) {
        Object[][] values = {
            {"bit", true}, {"tinyint", (short) 255}, {"smallint", (short) -32768}, {"int", Integer.MIN_VALUE},
            {"bigint", Long.MAX_VALUE}, {"real", 1.5f}, {"float", -1.25e300}, {"decimal(38,10)", new BigDecimal("1234567890123456789012345678.0123456789")},
            {"money", new BigDecimal("-922337203685477.5808")}, {"varchar(20)", "Süd €"}, {"nvarchar(40)", "Ελλάδα 東京 😀"},
            {"nvarchar(max)", "ü".repeat(9000)}, {"nvarchar(5)", ""}, {"varbinary(10)", new byte[] {0, -1}},
            {"varbinary(max)", new byte[20000]}, {"date", LocalDate.of(1, 1, 1)}, {"time(7)", LocalTime.of(23, 59, 59, 999999900)},
            {"datetime2(7)", LocalDateTime.of(9999, 12, 31, 23, 59, 59, 999999900)},
            {"datetimeoffset(7)", OffsetDateTime.parse("2024-02-29T23:30:00.1234567-05:30")},
            {"uniqueidentifier", "6F9619FF-8B86-D011-B42D-00C04FC964FF"}, {"xml", "<a b=\"1\"/>"},
        };
        for (Object[] value : values) {
            proof("parameters", value[0] + " goes and comes back", () -> {
                try (PreparedStatement statement = connection.prepareStatement("SELECT CAST(? AS " + value[0] + ")")) {
                    statement.setObject(1, value[1]);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        Object found = value[1] instanceof Number || value[1] instanceof Boolean || value[1] instanceof byte[]
                            ? rows.getObject(1) : rows.getObject(1, value[1].getClass());
                        return pair(found, value[1]);
                    }
                }
            });
        }
        for (int type : new int[] {Types.INTEGER, Types.NVARCHAR, Types.VARBINARY, Types.DECIMAL, Types.TIMESTAMP, Types.DATE}) {
            proof("parameters", "NULL of JDBC's type " + type, () -> {
                try (PreparedStatement statement = connection.prepareStatement("SELECT ?, 1")) {
                    statement.setNull(1, type);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        return pair(list(rows.getObject(1), rows.wasNull()), list(null, true));
                    }
                }
            });
        }
        proof("parameters", "a statement is prepared at its second execution and kept", () -> {
            List<Object> found = list();
            try (PreparedStatement statement = connection.prepareStatement("SELECT ? + 1")) {
                for (int at = 0; at < 5; at++) {
                    statement.setInt(1, at);
                    try (ResultSet rows = statement.executeQuery()) {
                        rows.next();
                        found.add(rows.getInt(1));
                    }
                }
            }
            return pair(found, list(1, 2, 3, 4, 5));
        });
        proof("parameters", "a batch of calls in one message", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE #batch (id int NOT NULL PRIMARY KEY, v nvarchar(20) NULL)");
            }
            int[] counts;
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO #batch VALUES (?, ?)")) {
                for (int at = 0; at < 50; at++) {
                    statement.setInt(1, at);
                    statement.setString(2, "row " + at);
                    statement.addBatch();
                }
                counts = statement.executeBatch();
            }
            return pair(list(Arrays.stream(counts).sum(), one(connection, "SELECT MAX(v) FROM #batch")), list(50, "row 9"));
        });
        proof("parameters", "keys that were generated come back", () -> {
            try (Statement statement = connection.createStatement()) {
                statement.execute("CREATE TABLE #generated (id int IDENTITY(7, 1), v int)");
            }
            try (PreparedStatement statement = connection.prepareStatement("INSERT INTO #generated (v) VALUES (?)", Statement.RETURN_GENERATED_KEYS)) {
                statement.setInt(1, 5);
                statement.executeUpdate();
                try (ResultSet keys = statement.getGeneratedKeys()) {
                    keys.next();
                    return pair(keys.getInt(1), 7);
                }
            }
        });
    }

    static void procedures(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute("CREATE PROCEDURE dbo.jd_add @a int, @b nvarchar(20), @sum int OUTPUT, @said nvarchar(40) OUTPUT, @more decimal(9,2) = 1.25 AS\n"
                + "BEGIN\n  SET NOCOUNT ON;\n  SELECT @a AS a, @b AS b;\n  SET @sum = @a + 1;\n  SET @said = @b + N'!';\n  SELECT @more AS more;\n  RETURN -5;\nEND");
        }
        proof("procedures", "{? = call}: results, output parameters and the return code", () -> {
            try (CallableStatement call = connection.prepareCall("{? = call dbo.jd_add(?, ?, ?, ?)}")) {
                call.registerOutParameter(1, Types.INTEGER);
                call.setInt(2, 41);
                call.setString(3, "hé");
                call.registerOutParameter(4, Types.INTEGER);
                call.registerOutParameter(5, Types.NVARCHAR);
                List<Object> found = list();
                boolean rows = call.execute();
                while (rows || call.getUpdateCount() >= 0) {
                    if (rows) {
                        try (ResultSet set = call.getResultSet()) {
                            set.next();
                            found.add(set.getObject(1).toString());
                        }
                    }
                    rows = call.getMoreResults();
                }
                found.addAll(list(call.getInt(1), call.getInt(4), call.getString(5)));
                return pair(found, list("41", "1.25", -5, 42, "hé!"));
            }
        });
        proof("procedures", "one that is not there is 2812", () -> {
            try (CallableStatement call = connection.prepareCall("{call dbo.jd_nothing(?)}")) {
                call.setInt(1, 1);
                call.execute();
                return pair(0, 2812);
            } catch (SQLException error) {
                return pair(error.getErrorCode(), 2812);
            }
        });
        try (Statement statement = connection.createStatement()) {
            statement.execute("DROP PROCEDURE dbo.jd_add");
        }
    }

    static void transactions(Connection connection) {
        proof("transactions", "commit, rollback and a savepoint", () -> {
            connection.setAutoCommit(false);
            try (Statement statement = connection.createStatement()) {
                statement.executeUpdate("INSERT INTO dbo.jd_depot (id, name) VALUES (70, N'kept')");
                Savepoint half = connection.setSavepoint("half");
                statement.executeUpdate("INSERT INTO dbo.jd_depot (id, name) VALUES (71, N'not kept')");
                connection.rollback(half);
                connection.commit();
                statement.executeUpdate("DELETE FROM dbo.jd_depot WHERE id = 70");
                connection.rollback();
            } finally {
                connection.setAutoCommit(true);
            }
            return pair(one(connection, "SELECT STRING_AGG(CAST(id AS varchar(9)), ',') FROM dbo.jd_depot WHERE id >= 70"), "70");
        });
        Map<Integer, Integer> levels = new HashMap<>();
        levels.put(Connection.TRANSACTION_READ_COMMITTED, 2);
        levels.put(Connection.TRANSACTION_SERIALIZABLE, 4);
        levels.put(SQLServerConnection.TRANSACTION_SNAPSHOT, 5);
        levels.forEach((level, number) -> proof("transactions", "isolation level " + level, () -> {
            try (Connection other = connect()) {
                other.setTransactionIsolation(level);
                Object found = one(other, "SELECT transaction_isolation_level FROM sys.dm_exec_sessions WHERE session_id = @@SPID");
                return pair(((Number) found).intValue(), number);
            }
        }));
        proof("transactions", "two sessions that wait for each other: one is 1205, the other goes on", () -> {
            try (Connection a = connect(); Connection b = connect()) {
                try (Statement statement = a.createStatement()) {
                    statement.execute("CREATE TABLE dbo.jd_lock (id int NOT NULL PRIMARY KEY, v int NOT NULL); INSERT INTO dbo.jd_lock VALUES (1, 0), (2, 0)");
                }
                a.setAutoCommit(false);
                b.setAutoCommit(false);
                a.createStatement().executeUpdate("UPDATE dbo.jd_lock SET v = 1 WHERE id = 1");
                b.createStatement().executeUpdate("UPDATE dbo.jd_lock SET v = 2 WHERE id = 2");
                int[] codes = {0, 0};
                Thread waiting = new Thread(() -> {
                    try {
                        a.createStatement().executeUpdate("UPDATE dbo.jd_lock SET v = 1 WHERE id = 2");
                    } catch (SQLException error) {
                        codes[0] = error.getErrorCode();
                    }
                });
                waiting.start();
                try {
                    b.createStatement().executeUpdate("UPDATE dbo.jd_lock SET v = 2 WHERE id = 1");
                } catch (SQLException error) {
                    codes[1] = error.getErrorCode();
                }
                b.rollback();
                waiting.join();
                a.rollback();
                a.setAutoCommit(true);
                a.createStatement().execute("DROP TABLE dbo.jd_lock");
                return pair(codes[0] + codes[1], 1205);
            }
        });
    }

    static void others(Connection connection) {
        for (String buffering : new String[] {"adaptive", "full"}) {
            proof("results", "50,000 rows with responseBuffering=" + buffering, () -> {
                try (Connection other = connect("responseBuffering", buffering); Statement statement = other.createStatement();
                        ResultSet rows = statement.executeQuery("SELECT value, REPLICATE('x', value % 30) FROM GENERATE_SERIES(1, 50000)")) {
                    int right = 0;
                    while (rows.next()) {
                        right += rows.getString(2).length() == rows.getInt(1) % 30 ? 1 : 0;
                    }
                    return pair(right, 50000);
                }
            });
        }
        proof("catalog", "DatabaseMetaData names tables, columns and keys", () -> {
            List<Object> found = list();
            var meta = connection.getMetaData();
            try (ResultSet tables = meta.getTables(null, "dbo", "jd\\_depot", null)) {
                while (tables.next()) {
                    found.add(tables.getString("TABLE_NAME"));
                }
            }
            try (ResultSet columns = meta.getColumns(null, "dbo", "jd\\_depot", "%")) {
                while (columns.next()) {
                    found.add(columns.getString("COLUMN_NAME") + " " + columns.getInt("DATA_TYPE"));
                }
            }
            try (ResultSet keys = meta.getPrimaryKeys(null, "dbo", "jd_depot")) {
                while (keys.next()) {
                    found.add(keys.getString("COLUMN_NAME"));
                }
            }
            return pair(found, list("jd_depot", "id 4", "name -9", "parent 4", "id"));
        });
        proof("time-outs", "setQueryTimeout gives a statement up, and the connection is of use", () -> {
            String state = "";
            try (Statement statement = connection.createStatement()) {
                statement.setQueryTimeout(1);
                statement.execute("WAITFOR DELAY '00:00:30'");
            } catch (SQLException error) {
                state = error.getSQLState();
            }
            return pair(list(state, one(connection, "SELECT 7")), list("HY008", 7));
        });
        proof("time-outs", "cancel() stops a statement", () -> {
            String state = "";
            try (Statement statement = connection.createStatement()) {
                Thread cancelling = new Thread(() -> {
                    try {
                        Thread.sleep(200);
                        statement.cancel();
                    } catch (Exception ignored) {
                        // the statement ends by itself then, and the proof fails
                    }
                });
                cancelling.start();
                try {
                    statement.execute("WAITFOR DELAY '00:00:30'");
                } catch (SQLException error) {
                    state = error.getSQLState();
                }
                cancelling.join();
            }
            return pair(list(state, one(connection, "SELECT 8")), list("HY008", 8));
        });
        proof("bulk", "SQLServerBulkCopy of 1,000 rows from a result", () -> {
            try (Connection source = connect(); Statement statement = connection.createStatement(); Statement reading = source.createStatement()) {
                statement.execute("CREATE TABLE dbo.jd_bulk (id int NOT NULL, v nvarchar(20) NULL, amount decimal(9,2) NULL, at datetime2(3) NULL)");
                try (ResultSet rows = reading.executeQuery("SELECT value AS id, CASE WHEN value = 5 THEN NULL ELSE CAST(value AS nvarchar(20)) + N' ü' END AS v, CAST(value AS decimal(9,2)) / 4 AS amount, CAST('2024-02-29 12:00:00.123' AS datetime2(3)) AS at FROM GENERATE_SERIES(1, 1000)");
                        SQLServerBulkCopy copy = new SQLServerBulkCopy(connection)) {
                    SQLServerBulkCopyOptions options = new SQLServerBulkCopyOptions();
                    options.setBatchSize(400);
                    copy.setBulkCopyOptions(options);
                    copy.setDestinationTableName("dbo.jd_bulk");
                    copy.writeToServer(rows);
                }
                Object found = one(connection, "SELECT CONCAT(COUNT(*), ' ', COUNT(v), ' ', MAX(id), ' ', SUM(amount), ' ', MAX(at)) FROM dbo.jd_bulk");
                statement.execute("DROP TABLE dbo.jd_bulk");
                return pair(found, "1000 999 1000 125125.00 2024-02-29 12:00:00.123");
            }
        });
    }

    public static void main(String[] arguments) throws Exception {
        trusted = store(ENV.get("SQLSERVER_CA"));
        logins();
        try (Connection connection = connect()) {
            statements(connection);
            parameters(connection);
            procedures(connection);
            transactions(connection);
            others(connection);
        }
        System.exit(missed == 0 ? 0 : 1);
    }
}
