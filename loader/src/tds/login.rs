//! LOGIN7 and the exchange of GSS tokens until LOGINACK (MS-TDS 2.2.6.4, 2.2.6.6, 3.2.5).

use super::{
    ConnectOptions, Encrypt, Relay, TdsError,
    cursor::{Cursor, Stop},
    packet::{Channel, Kind},
    prelogin::Protection,
    token::{self, Change, Token},
};

const TDS_7_4: u32 = 0x7400_0004;
const TDS_8_0: u32 = 0x0800_0000;
/// LOGIN7 up to its first variable field.
const FIXED: usize = 94;
/// The most that LOGIN7 may have (MS-TDS: 128 KiB - 1).
const MAX_LOGIN: usize = 128 * 1024 - 1;
const MAX_NAME: usize = 128;
/// GSS tokens that are exchanged at most; Kerberos needs one each way.
const MAX_ROUNDS: usize = 16;
/// `FeatureExt`: the server may send UTF-8 columns as they are.
const UTF8_SUPPORT: u8 = 0x0A;

/// How a login ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Logged in; batches may be sent.
    Ready,
    /// The server names another one to connect to.
    Routed { host: String, port: u16 },
}

/// Logs in. No batch can be sent before this has returned the channel: it takes it and gives it back.
pub(super) async fn login(
    mut channel: Channel,
    options: &ConnectOptions,
    protection: Protection,
    relay: &mut impl Relay,
) -> Result<(Channel, Outcome), TdsError> {
    const DURING: &str = "the login was under way";
    let first = relay.begin().await?;
    let message = login7(options, &first)?;
    channel.send(Kind::Login7, &message).await?;
    if protection == Protection::LoginOnly {
        channel = channel.map_transport(super::tls::Transport::into_plain);
    }
    let mut state = Exchange::default();
    for _ in 0..MAX_ROUNDS {
        let rounds = state.server_tokens;
        while let Some(token) = read_token(&mut channel, DURING).await? {
            state.take(token, relay, &mut channel).await?;
        }
        if state.acknowledged {
            return match state.route {
                Some((host, port)) => Ok((channel, Outcome::Routed { host, port })),
                None => Ok((channel, Outcome::Ready)),
            };
        }
        if !state.reply.is_empty() {
            channel.send(Kind::Sspi, &std::mem::take(&mut state.reply)).await?;
        } else if state.server_tokens > rounds {
            // The proof of the server's identity came in a message of its own; LOGINACK follows unasked.
            channel.next_message();
        } else {
            return Err(TdsError::protocol("its answer to the login holds neither LOGINACK nor an error"));
        }
    }
    Err(TdsError::protocol(format!("the login is not complete after {MAX_ROUNDS} rounds")))
}

#[derive(Default)]
struct Exchange {
    complete: bool,
    acknowledged: bool,
    server_tokens: usize,
    reply: Vec<u8>,
    route: Option<(String, u16)>,
}

impl Exchange {
    async fn take(
        &mut self,
        token: Token,
        relay: &mut impl Relay,
        channel: &mut Channel,
    ) -> Result<(), TdsError> {
        match token {
            Token::Sspi(server_token) => {
                if self.complete || self.acknowledged || !self.reply.is_empty() {
                    return Err(TdsError::protocol("it sent a GSS token that nobody waits for"));
                }
                self.server_tokens += 1;
                let step = relay.step(&server_token).await?;
                self.complete = step.complete;
                self.reply = step.token;
            }
            Token::LoginAck(version) => {
                if !self.complete {
                    return Err(TdsError::NotMutual);
                }
                if !spoken(version) {
                    return Err(TdsError::Refused(format!(
                        "the server speaks TDS version 0x{version:08x}; SQL Server 2008 or later is needed"
                    )));
                }
                self.acknowledged = true;
            }
            Token::Error(error) => return Err(TdsError::Server(error)),
            Token::Info(info) => {
                tracing::debug!(number = info.number, "SQL Server says something about the login");
            }
            Token::Changed(Change::PacketSize(size)) => channel.set_packet_size(size)?,
            Token::Changed(Change::Route { host, port }) => self.route = Some((host, port)),
            Token::Features(features) => {
                if let Some((feature, _)) = features.iter().find(|(feature, _)| *feature != UTF8_SUPPORT) {
                    return Err(TdsError::protocol(format!(
                        "it acknowledges the feature {feature}, which was not asked for"
                    )));
                }
            }
            Token::Done(done) if done.failed() => {
                return Err(TdsError::Refused(
                    "the server refused the login without saying why; look into its error log".into(),
                ));
            }
            Token::Changed(_) | Token::Done(_) | Token::Other => {}
            Token::Columns(_) | Token::Row | Token::NbcRow => {
                return Err(TdsError::protocol("rows came in answer to the login"));
            }
        }
        Ok(())
    }
}

fn spoken(version: u32) -> bool {
    (0x730A_0003..=0x7400_0004).contains(&version) || version == TDS_8_0
}

/// The next token of the message, or `None` at its end.
pub(super) async fn read_token(
    channel: &mut Channel,
    during: &'static str,
) -> Result<Option<Token>, TdsError> {
    loop {
        let bytes = channel.bytes();
        if bytes.is_empty() && channel.is_ended() {
            return Ok(None);
        }
        let mut cursor = Cursor::new(bytes);
        match token::next(&mut cursor) {
            Ok(token) => {
                let used = cursor.position();
                channel.consume(used);
                return Ok(Some(token));
            }
            Err(Stop::Fail(error)) => return Err(*error),
            Err(Stop::Short(wanted)) => more(channel, wanted, during).await?,
        }
    }
}

/// Waits for more bytes of a token or row. Above a size, it waits for at least twice as much each time, so
/// that the work spent on incomplete rows stays in proportion to their length.
pub(super) async fn more(channel: &mut Channel, wanted: usize, during: &'static str) -> Result<(), TdsError> {
    const PATIENT_FROM: usize = 64 * 1024;
    if channel.is_ended() {
        let left = channel.bytes().len();
        return Err(TdsError::protocol(if left == 0 {
            "its answer ends without DONE".to_owned()
        } else {
            format!("its answer ends within a token or row, {left} bytes after its start")
        }));
    }
    let have = channel.bytes().len();
    let ask =
        if have < PATIENT_FROM { wanted } else { wanted.max((2 * have).min(super::packet::MAX_BUFFERED)) };
    channel.fill(ask, during).await
}

/// Builds the LOGIN7 message.
fn login7(options: &ConnectOptions, gss_token: &[u8]) -> Result<Vec<u8>, TdsError> {
    let host_name = std::env::var("HOSTNAME").unwrap_or_default();
    let host_name = host_name.chars().filter(char::is_ascii_graphic).take(64).collect::<String>();
    let mut message = Layout::new();
    message.name("host name", &host_name)?;
    message.absent(); // user name: the GSS token says who
    message.absent(); // password: there is none
    message.name("app_name", &options.app_name)?;
    message.name("source.host", &options.host)?;
    let extension = message.extension();
    message.name("library", "keyferry")?;
    message.absent(); // language: the login's own
    message.name("source.database", &options.database)?;
    message.client_id();
    message.field(gss_token.len().min(0xFFFF), gss_token);
    message.absent(); // database file
    message.absent(); // new password
    let long = if gss_token.len() >= 0xFFFF { gss_token.len() as u32 } else { 0 };
    message.head.extend_from_slice(&long.to_le_bytes());
    message.finish(options, extension)
}

/// LOGIN7's fixed part and the data that its offsets point to.
struct Layout {
    head: Vec<u8>,
    data: Vec<u8>,
}

/// Bytes before the first offset.
const NUMBERS: usize = 36;

impl Layout {
    fn new() -> Self {
        Self { head: vec![0; NUMBERS], data: Vec::new() }
    }

    fn field(&mut self, length: usize, bytes: &[u8]) {
        let offset = (FIXED + self.data.len()) as u16;
        self.head.extend_from_slice(&offset.to_le_bytes());
        self.head.extend_from_slice(&(length as u16).to_le_bytes());
        self.data.extend_from_slice(bytes);
    }

    fn absent(&mut self) {
        self.field(0, &[]);
    }

    fn name(&mut self, what: &str, text: &str) -> Result<(), TdsError> {
        let units: Vec<u16> = text.encode_utf16().collect();
        if units.len() > MAX_NAME {
            return Err(TdsError::Refused(format!(
                "{what} has {} characters; a login takes {MAX_NAME} at most",
                units.len()
            )));
        }
        let bytes: Vec<u8> = units.iter().flat_map(|unit| unit.to_le_bytes()).collect();
        self.field(units.len(), &bytes);
        Ok(())
    }

    /// Room for the offset of `FeatureExt`; returns where it is.
    fn extension(&mut self) -> usize {
        let at = self.data.len();
        self.field(4, &[0; 4]);
        at
    }

    fn client_id(&mut self) {
        self.head.extend_from_slice(&[0; 6]);
    }

    fn finish(mut self, options: &ConnectOptions, extension: usize) -> Result<Vec<u8>, TdsError> {
        let features_at = (FIXED + self.data.len()) as u32;
        self.data[extension..extension + 4].copy_from_slice(&features_at.to_le_bytes());
        self.data.extend_from_slice(&[UTF8_SUPPORT, 0, 0, 0, 0, 0xFF]);
        let length = FIXED + self.data.len();
        if length > MAX_LOGIN {
            return Err(TdsError::Refused(format!(
                "the login message has {length} bytes ({MAX_LOGIN} are possible): the Kerberos token is too large"
            )));
        }
        let version = if options.encrypt == Encrypt::Strict { TDS_8_0 } else { TDS_7_4 };
        let numbers = [
            length as u32,
            version,
            u32::from(options.packet_size.clamp(512, 32767)),
            0x0100_0000, // this client's version
            std::process::id(),
            0, // not a connection to a primary's partner
        ];
        for (place, number) in self.head.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        // USE, and fail if the database is not there; warn of language; ODBC's ANSI settings; integrated security;
        // unknown collations are ours to refuse; FeatureExt follows.
        let read_only = if options.read_intent { 0x20 } else { 0 };
        self.head[24..28].copy_from_slice(&[0xE0, 0x83, read_only, 0x18]);
        self.head[32..36].copy_from_slice(&0x0409_u32.to_le_bytes());
        self.head.append(&mut self.data);
        Ok(self.head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u16_at(message: &[u8], at: usize) -> usize {
        usize::from(u16::from_le_bytes([message[at], message[at + 1]]))
    }

    fn u32_at(message: &[u8], at: usize) -> usize {
        u32::from_le_bytes(message[at..at + 4].try_into().unwrap()) as usize
    }

    fn text_at(message: &[u8], at: usize) -> String {
        let (offset, units) = (u16_at(message, at), u16_at(message, at + 2));
        Cursor::new(&message[offset..]).utf16(units).unwrap()
    }

    #[test]
    fn every_field_is_where_ms_tds_puts_it() {
        let mut options = ConnectOptions::new("sql01.corp.example.com", 1433, "sales");
        options.read_intent = true;
        let message = login7(&options, b"GSS-TOKEN").unwrap();
        assert_eq!(u32_at(&message, 0), message.len());
        assert_eq!(message[4..8], [0x04, 0x00, 0x00, 0x74]);
        assert_eq!(u32_at(&message, 8), 32767);
        assert_eq!(message[24], 0xE0);
        assert_eq!(message[25] & 0x80, 0x80, "integrated security");
        assert_eq!(message[26] & 0x20, 0x20, "read intent");
        assert_eq!(message[27] & 0x10, 0x10, "FeatureExt");
        assert_eq!(u16_at(&message, 36), FIXED, "the first offset tells where the fixed part ends");
        assert_eq!(text_at(&message, 48), "keyferry");
        assert_eq!(text_at(&message, 52), "sql01.corp.example.com");
        assert_eq!(text_at(&message, 68), "sales");
        assert_eq!((u16_at(&message, 42), u16_at(&message, 46)), (0, 0), "no user, no password");
        let (at, length) = (u16_at(&message, 78), u16_at(&message, 80));
        assert_eq!(&message[at..at + length], b"GSS-TOKEN");
        assert_eq!(u32_at(&message, 90), 0);
        let features = u32_at(&message, u16_at(&message, 56));
        assert_eq!(message[features..], [UTF8_SUPPORT, 0, 0, 0, 0, 0xFF]);
    }

    #[test]
    fn a_token_beyond_64_kib_uses_the_long_length() {
        let options = ConnectOptions::new("h", 1433, "d");
        let token = vec![7; 70_000];
        let message = login7(&options, &token).unwrap();
        assert_eq!(u16_at(&message, 80), 0xFFFF);
        assert_eq!(u32_at(&message, 90), token.len());
        let at = u16_at(&message, 78);
        assert_eq!(message[at..at + token.len()], token);
        let too_much = login7(&options, &vec![7; 140_000]).unwrap_err().to_string();
        assert!(too_much.contains("too large"), "{too_much}");
    }

    #[test]
    fn a_name_that_no_login_can_carry_is_refused_by_its_key() {
        let options = ConnectOptions::new("h", 1433, "d".repeat(129));
        assert!(login7(&options, b"x").unwrap_err().to_string().contains("source.database"));
    }
}
