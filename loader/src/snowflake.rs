//! One Snowflake session.
