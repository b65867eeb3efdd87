import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Properties;

/**
 * Orders by status, read with a token that the broker gave this user.
 *
 * <pre>brokerctl exec reporting --file-env SNOWFLAKE_TOKEN_FILE -- java -cp 'snowflake-jdbc.jar:.' Report</pre>
 *
 * The file always holds a valid token: a service reads it whenever its pool opens a connection. All settings come from the
 * environment, as {@code brokerctl exec} makes it; {@code -Djavax.net.ssl.trustStore} names another authority than the usual ones.
 */
public final class Report {
    public static void main(String[] arguments) throws Exception {
        try (Connection connection = connect()) {
            try (Statement statement = connection.createStatement();
                    ResultSet who = statement.executeQuery("SELECT CURRENT_USER(), CURRENT_ROLE()")) {
                who.next();
                System.out.printf("connected as %s with role %s%n", who.getString(1), who.getString(2));
            }
            String sql = "SELECT O_ORDERSTATUS, COUNT(*), SUM(O_TOTALPRICE) FROM ORDERS WHERE O_TOTALPRICE > ? "
                    + "GROUP BY O_ORDERSTATUS ORDER BY O_ORDERSTATUS";
            try (PreparedStatement statement = connection.prepareStatement(sql)) {
                statement.setInt(1, 0);
                try (ResultSet rows = statement.executeQuery()) {
                    while (rows.next()) {
                        System.out.printf("%s %d %s%n", rows.getString(1), rows.getLong(2), rows.getBigDecimal(3));
                    }
                }
            }
        } catch (SQLException error) {
            System.err.printf("report: %d: %s%n", error.getErrorCode(), error.getMessage());
            System.exit(1);
        }
    }

    private static Connection connect() throws Exception {
        String file = System.getenv("SNOWFLAKE_TOKEN_FILE");
        Properties properties = new Properties();
        properties.put("authenticator", "oauth");
        properties.put("token", file == null ? System.getenv("SNOWFLAKE_TOKEN") : Files.readString(Path.of(file)));
        properties.put("account", System.getenv("SNOWFLAKE_ACCOUNT"));
        properties.put("user", System.getenv("SNOWFLAKE_USER"));
        properties.put("role", System.getenv("SNOWFLAKE_ROLE"));
        properties.put("warehouse", System.getenv("SNOWFLAKE_WAREHOUSE"));
        properties.put("db", "RAW_ZONE");
        properties.put("schema", "SALES");
        // Rows as JSON: Arrow's Java library wants --add-opens on Java 17.
        properties.put("JDBC_QUERY_RESULT_FORMAT", "JSON");
        String port = System.getenv().getOrDefault("SNOWFLAKE_PORT", "443");
        return DriverManager.getConnection("jdbc:snowflake://" + System.getenv("SNOWFLAKE_HOST") + ":" + port + "/", properties);
    }
}
