"""Texts in the encodings of the world before UTF-8 are read as they were written."""

from pathlib import Path

import pytest

from cfai.cli.encodings import choose_latin, decode_any, guess_utf16
from cfai.cli.reading import Reading
from cfai.cli.texts import TextFile
from cfai.errors import InputError

SENTENCES = {
    "French": (
        "cp1252",
        (
            "L’été dernier, nous avons visité le château de Chambord où les élèves "
            "ont été très intéressés. "
            "Ça coûte cher, même à Noël, et l'œuvre plaît."
        ),
    ),
    "Spanish": (
        "cp1252",
        (
            "El niño comió una manzana en la montaña y después bebió agua. "
            "¿Qué pasó mañana? "
            "¡Increíble! "
            "La canción es más rápida."
        ),
    ),
    "Portuguese": (
        "cp1252",
        (
            "A educação não é fácil, mas as crianças estão à espera de uma solução. "
            "São Paulo é a maior cidade; a informação está disponível."
        ),
    ),
    "Danish": (
        "cp1252",
        (
            "Rødgrød med fløde er en dansk ret. "
            "Åen løber gennem byen, og børnene leger på græsset hver søndag."
        ),
    ),
    "German": (
        "cp1252",
        (
            "Die Straße ist naß, und die Bäume blühen schön für Grüße aus Köln. "
            "Über Ärger spricht man nicht öffentlich."
        ),
    ),
    "Swedish": (
        "cp1252",
        (
            "Våren är äntligen här och fåglarna sjunger på ängen. "
            "Jag älskar räksmörgås och smör på brödet."
        ),
    ),
    "Italian": (
        "cp1252",
        (
            "Perché non può venire? "
            "La città è più bella di così, e l'università è già aperta lunedì e martedì."
        ),
    ),
    "Dutch": (
        "cp1252",
        (
            "De coördinatie van de reünie kostte drieëntwintig euro; hij zei één woord: oké. "
            "België is een geïndustrialiseerd land."
        ),
    ),
    "Finnish": (
        "cp1252",
        (
            "Hyvää päivää! "
            "Tämä on hyvin yksinkertainen lause, jossa on paljon ääkkösiä. "
            "Älä mene metsään yöllä."
        ),
    ),
    "Norwegian": (
        "cp1252",
        (
            "Være så snill å sende bøkene på mandag. "
            "Æ e trønder, og vi går på fjellet når snøen er borte. "
            "Blåbær er gode."
        ),
    ),
    "Icelandic": (
        "cp1252",
        (
            "Það er gott að búa á Íslandi. "
            "Þetta er íslenska og hún er falleg. "
            "Við förum út á sjó í dag með ömmu."
        ),
    ),
    "Polish": (
        "cp1250",
        (
            "Zażółć gęślą jaźń. "
            "Wczoraj poszliśmy do sklepu, żeby kupić chleb i mleko, ale był już zamknięty. "
            "Łódź jest dużym miastem."
        ),
    ),
    "Czech": (
        "cp1250",
        (
            "Příliš žluťoučký kůň úpěl ďábelské ódy. "
            "Včera jsme šli do obchodu koupit chléb a mléko, ale bylo už zavřeno."
        ),
    ),
    "Hungarian": (
        "cp1250",
        (
            "Árvíztűrő tükörfúrógép. "
            "Tegnap elmentünk a boltba, hogy kenyeret és tejet vegyünk, de már zárva volt. "
            "Köszönöm szépen, jó éjszakát, őszi idő."
        ),
    ),
    "Croatian": (
        "cp1250",
        (
            "Jučer smo išli u dućan kupiti kruh i mlijeko, ali je već bio zatvoren. "
            "Želim vam sretan rođendan, čovječe. "
            "Život je lijep, šećer je skup."
        ),
    ),
    "Romanian": (
        "cp1250",
        (
            "Bună ziua! "
            "Astăzi este o zi frumoasă şi mergem la piaţă să cumpărăm pâine şi lapte. "
            "Înţeleg că învăţaţi româneşte."
        ),
    ),
    "Russian": (
        "cp1251",
        (
            "Вчера мы ходили в магазин, чтобы купить хлеб и молоко, но он был уже закрыт. "
            "Съешь ещё этих мягких булок."
        ),
    ),
    "Greek": (
        "cp1253",
        (
            "Χθες πήγαμε στο κατάστημα για να αγοράσουμε ψωμί και γάλα, αλλά ήταν ήδη κλειστό. "
            "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία."
        ),
    ),
    "Turkish": (
        "cp1254",
        (
            "Dün ekmek ve süt almak için dükkâna gittik ama kapalıydı. "
            "Pijamalı hasta yağız şoföre çabucak güvendi. "
            "İstanbul çok güzel bir şehir."
        ),
    ),
    "Lithuanian": (
        "cp1257",
        (
            "Vakar nuėjome į parduotuvę nusipirkti duonos ir pieno, bet ji jau buvo uždaryta. "
            "Įlinkdama fechtuotojo špaga."
        ),
    ),
    "Hebrew": (
        "cp1255",
        "אתמול הלכנו לחנות לקנות לחם וחלב, אבל היא כבר הייתה סגורה. דג סקרן שט בים מאוכזב.",
    ),
}


@pytest.mark.parametrize("times", [1, 30])
@pytest.mark.parametrize("language", SENTENCES)
def test_the_text_is_read_in_its_encoding(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], language: str, times: int
) -> None:
    """And the encoding that was assumed is said."""
    encoding, sentence = SENTENCES[language]
    path = tmp_path / "texts.txt"
    path.write_bytes(f"{sentence}\n".encode(encoding) * times)
    assert list(TextFile(path, Reading("text")).read()) == [sentence] * times
    assert "is not UTF-8; it is read as cp125" in capsys.readouterr().err


@pytest.mark.parametrize(
    "sample",
    [
        b"plain",
        "Съешь ещё этих мягких булок".encode("cp1251"),
        "吾輩は猫である。名前はまだ無い。".encode("cp932"),
        "un été très doux, et l'élève est né à Orléans ".encode() + b"caf\xe9",
    ],
    ids=["ASCII", "Russian", "Japanese", "UTF-8 with an error"],
)
def test_other_texts_are_not_latin(sample: bytes) -> None:
    assert choose_latin(sample) is None


@pytest.mark.parametrize("end", ["", "\n", "abc\n", "abcdef\n"])
def test_one_foreign_letter_near_the_end_is_seen(tmp_path: Path, end: str) -> None:
    """A small file is its own sample: nothing was cut off."""
    path = tmp_path / "texts.txt"
    path.write_bytes(f"une tasse de café{end}".encode("cp1252"))
    assert list(TextFile(path, Reading("text")).read()) == [f"une tasse de café{end}".rstrip()]


@pytest.mark.parametrize("shift", range(4))
def test_a_sample_may_end_inside_a_character(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shift: int
) -> None:
    """The rest of the file follows it."""
    path = tmp_path / "texts.txt"
    text = "a" * shift + "\U0001f600" * 2**17
    path.write_text(text, encoding="utf-8")
    assert list(TextFile(path, Reading("text")).read()) == [text]
    assert capsys.readouterr().err == ""


def test_a_third_of_the_letters_may_be_outside_ascii() -> None:
    """With more, the language is hardly one of Latin letters."""
    assert choose_latin(b"ab\xe9") == "cp1252"
    assert choose_latin(b"abcd\xe9\xe8") == "cp1252"
    assert choose_latin(b"a\xe9") is None
    assert choose_latin(b"abc\xe9\xe8") is None


@pytest.mark.parametrize(("own", "encoding"), [(9, "cp1252"), (8, None)])
def test_one_letter_in_ten_may_be_foreign(own: int, encoding: str | None) -> None:
    """Such as those of names: \u00f0 is in no alphabet with \u00df."""
    sample = b"abcdefghij" * 10 + b"\xdf" * own + b"\xf0"
    assert choose_latin(sample) == encoding


def test_utf16_without_a_mark_is_recognized() -> None:
    """By the zeros of ASCII characters: more than half of the characters must be such."""
    assert guess_utf16("abc".encode("utf-16-le"), "a") == "utf-16-le"
    assert guess_utf16("abc".encode("utf-16-be"), "a") == "utf-16-be"
    mostly, half = "abc\u4e2d", "ab\u4e2d\u6587"
    for encoding in ("utf-16-le", "utf-16-be"):
        assert guess_utf16(mostly.encode(encoding), "a") == encoding
        with pytest.raises(InputError, match=r"a\.txt is not a text file; choose what it is with"):
            guess_utf16(half.encode(encoding), "a.txt")


@pytest.mark.parametrize("data", [b"\0\0\0\0", b"a\0\0b", bytes(range(256))])
def test_what_has_zeros_elsewhere_is_no_text(data: bytes) -> None:
    with pytest.raises(InputError, match="is not a text file"):
        guess_utf16(data, "a")


@pytest.mark.parametrize(
    "text",
    [
        "It’s fine.",
        "Grüße",
        "Price £5 each, £50 for a dozen.",
        "Total: 100 €",
        "é",
        "été",
        "20°C",
        "§ 5 BGB",
        "± 3",
        "Größe: 5 µm",
        "½ cup of sugar and ¼",
        "• one",
        "naïve café – “quoted”…",
        "© 2024 Müller",
    ],
)
def test_short_western_texts_with_signs_are_read_as_such(text: str) -> None:
    assert decode_any(text.encode("cp1252")) == (text, "cp1252")


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Привет, как дела?", "cp1251"),
        ("テスト", "shift_jis"),
        ("日本語のテキストです。", "shift_jis"),
        ("中文测试文本内容", "gb18030"),
        ("中文測試", "big5"),
        ("한국어 텍스트", "euc_kr"),
        ("Καλημέρα κόσμε", "cp1253"),
        ("žluťoučký kůň", "cp1250"),
    ],
)
def test_short_texts_in_other_scripts_are_read_as_such(text: str, encoding: str) -> None:
    decoded = decode_any(text.encode(encoding))
    assert decoded is not None
    assert decoded.text == text


def test_utf8_with_an_error_is_no_western_text() -> None:
    decoded = decode_any("café, déjà vu".encode() + b"\xff")
    assert decoded is None or decoded.guess != "cp1252"
