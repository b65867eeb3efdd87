//! Real-world text: many scripts, each in a code page of its own and once more in Unicode.

use super::{Cell, Table};

/// Column, collation, and texts that its code page can hold.
const SCRIPTS: &[(&str, &str, &[&str])] = &[
    (
        "latin",
        "Latin1_General_CI_AS",
        &["Zoë Müller-Lüdenscheidt", "“quoted” – €1.234,50", "Ærøskøbing", "O'Brien; DROP TABLE x--"],
    ),
    ("central", "Polish_CI_AS", &["Łódź, ul. Świętokrzyska", "Dvořák", "Szczęście", "Erdős Pál"]),
    ("cyrillic", "Cyrillic_General_CI_AS", &["Санкт-Петербург", "Ёлка № 5", "Київ – їжак", "Ђорђе"]),
    ("greek", "Greek_CI_AS", &["Αθήνα", "ΰπνος", "Θεσσαλονίκη € 5", "Οδυσσεύς"]),
    ("turkish", "Turkish_CI_AS", &["İstanbul", "ığdır", "Şişli", "Güneş"]),
    ("hebrew", "Hebrew_CI_AS", &["תל אביב", "שלום, עולם", "ירושלים ₪ 5", "א"]),
    ("arabic", "Arabic_CI_AS", &["القاهرة", "مرحبا بالعالم", "دبي", "ب"]),
    ("thai", "Thai_CI_AS", &["กรุงเทพมหานคร", "สวัสดี", "ภูเก็ต", "ก"]),
    ("japanese", "Japanese_CI_AS", &["東京都千代田区", "ソ連の表示能力", "ﾊﾝｶｸ", "株式会社"]),
    ("chinese", "Chinese_PRC_CI_AS", &["北京市朝阳区", "你好，世界", "龍", "上海"]),
    ("korean", "Korean_Wansung_CI_AS", &["서울특별시", "안녕하세요", "김치", "부산"]),
    ("taiwan", "Chinese_Taiwan_Stroke_CI_AS", &["臺北市信義區", "許功蓋", "你好", "高雄"]),
    ("utf8", "Latin1_General_100_CI_AS_SC_UTF8", &["𝄞 clef", "mixed 日本 и ελ", "🙂🙂", "plain"]),
];

/// One row for each text of each script, and NULL where a script has none at that place.
pub fn table() -> Table {
    let mut columns = vec![("id".to_owned(), "bigint NOT NULL".to_owned())];
    for (name, collation, _) in SCRIPTS {
        columns.push(((*name).to_owned(), format!("varchar(60) COLLATE {collation} NULL")));
    }
    columns.push(("anything".to_owned(), "nvarchar(200) NULL".to_owned()));
    let mut rows = Vec::new();
    for round in 0..200_usize {
        let mut row = vec![Cell::Int(round as i64 * 1_000_003 - 7)];
        for (at, (_, _, texts)) in SCRIPTS.iter().enumerate() {
            let pick = round + at;
            row.push(if pick % 11 == 0 { Cell::Null } else { Cell::text(texts[pick % texts.len()]) });
        }
        let (_, _, texts) = SCRIPTS[round % SCRIPTS.len()];
        row.push(Cell::text(format!("{} / {}", texts[round % texts.len()], "…".repeat(round % 40))));
        rows.push(row);
    }
    let columns: Vec<(&str, &str)> = columns.iter().map(|(name, ty)| (name.as_str(), ty.as_str())).collect();
    Table::new("awkward_text", &columns, "[id]", rows)
}
