"""Which row of a table names its columns, and sheets that are large, damaged or mislabelled."""

import csv
import io
import re
import time
import zipfile

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.formats import parse
from indexer.parse.office.sheets.table_lines import table_lines
from tests.indexer import make_files
from tests.indexer.make_files import make_odf
from tests.indexer.parse.test_formats import refused


def lines(text: str) -> list[str]:
    return list(table_lines([line.split(",") for line in text.splitlines()]))


@pytest.mark.parametrize(
    ("table", "second"),
    [
        ("Region,2022,2023\nNorth,10,11\nSouth,20,21", "Region: North | 2022: 10 | 2023: 11"),
        ("Area,1,2,3\nNorth,10,11,9\nSouth,20,2,8", "Area: North | 1: 10 | 2: 11 | 3: 9"),
        (
            "Name,Value,Name,Value\nKettle,3,Pump,5",
            "Name: Kettle | Value: 3 | Name: Pump | Value: 5",
        ),
        ("Name,Place\nKettle,North,extra\nPump,South", "Name: Kettle | Place: North | extra"),
        ("Kind,Weight\nMallard,1.1 kg\nSwan,11 kg", "Kind: Mallard | Weight: 1.1 kg"),
        (",2022,2023\nNorth,1,2\nSouth,3,4", "North | 2022: 1 | 2023: 2"),
        ("Pump,Runs\nA,yes\nB,no\nC,yes", "Pump: A | Runs: yes"),
        (
            "zipf_rank,lemma\nFoo Bar,Baz Qux\nBar Foo,Qux Baz",
            "zipf_rank: Foo Bar | lemma: Baz Qux",
        ),
    ],
)
def test_the_first_row_names_the_columns(table: str, second: str) -> None:
    assert lines(table)[1] == second


@pytest.mark.parametrize(
    "table",
    [
        "Kettle,North,blue\nPump,South,red\nValve,West,green",
        "Mallard,1.1 kg\nSwan,11 kg",
        "North,2022,10\nSouth,2023,11\nWest,2024,12",
        "Anna,Berlin\nBob,Paris",
        "Main Street,New York City\nBroadway,Boston",
        "Kettle,yes\nPump,no",
        "2024-05-01,opened\n2024-05-02,closed",
        "1,2\n3,4",
        "one\ntwo",
    ],
)
def test_a_table_without_a_header_is_not_labelled_by_its_first_row(table: str) -> None:
    assert lines(table) == [row.replace(",", " | ") for row in table.splitlines()]


def test_words_that_come_again_are_values_and_words_that_do_not_are_names() -> None:
    header = "Thing,Mood"
    rows = [f"K{number % 3} x,{('glad', 'sad')[number % 2]}" for number in range(24)]
    assert lines("\n".join([header, *rows]))[1] == "Thing: K0 x | Mood: glad"
    assert lines("\n".join(rows))[1] == "K1 x | sad"


def test_titles_stand_above_the_names_of_columns() -> None:
    table = "Export of stock\nMade by,A. Author\n\nName,Place,Count\nKettle,North,3\nPump,South,5"
    assert lines(table) == [
        "Export of stock",
        "Made by | A. Author",
        "Name | Place | Count",
        "Name: Kettle | Place: North | Count: 3",
        "Name: Pump | Place: South | Count: 5",
    ]


def test_each_table_of_a_sheet_has_its_own_names() -> None:
    table = "Name,Count\nKettle,3\n\nPump,5\n\nTowns\nTown,People\nUlm,126000\n\nSource: own"
    assert lines(table) == [
        "Name | Count",
        "Name: Kettle | Count: 3",
        "Name: Pump | Count: 5",
        "Towns",
        "Town | People",
        "Town: Ulm | People: 126000",
        "Town: Source: own",
    ]


def test_tables_side_by_side_have_their_own_names() -> None:
    table = "Name,Count,,,\nKettle,3,,Town,People\nPump,5,,Ulm,126000\n,,,Bonn,330000"
    assert lines(table) == [
        "Name | Count",
        "Name: Kettle | Count: 3 | Town | People",
        "Name: Pump | Count: 5 | Town: Ulm | People: 126000",
        "Town: Bonn | People: 330000",
    ]


def test_names_of_groups_of_columns_stand_before_names_that_come_again() -> None:
    table = "Sales\n,2022,,2023\nRegion,Q1,Q2,Q1,Q2\nNorth,1,2,3,4\nSouth,5,6,7,8"
    assert lines(table)[-2:] == [
        "Region: North | 2022 Q1: 1 | 2022 Q2: 2 | 2023 Q1: 3 | 2023 Q2: 4",
        "Region: South | 2022 Q1: 5 | 2022 Q2: 6 | 2023 Q1: 7 | 2023 Q2: 8",
    ]


@given(st.lists(st.lists(st.sampled_from(["", "a", "b", "1", "2022", "x y"]), max_size=4)))
def test_each_filled_row_is_a_line(rows: list[list[str]]) -> None:
    found = list(table_lines(rows))
    filled = [row for row in rows if any(row)]
    assert len(found) == len(filled)
    for row, line in zip(filled, found, strict=True):
        assert all(value in line for value in row)


def test_the_line_that_names_the_delimiter_is_no_row() -> None:
    text = parse("a.csv", b"sep=;\r\nName;Ort;Menge\r\nKessel;Nord;3,5\r\n").text
    assert text == "Name | Ort | Menge\nName: Kessel | Ort: Nord | Menge: 3,5"


def far_xlsx(cell: str = "XFD1048576") -> bytes:
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        book.add_worksheet("S").write_column(0, 0, ["near", "below"])
    with zipfile.ZipFile(stream) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    row = re.sub("[A-Z]", "", cell)
    stray = f'<row r="{row}"><c r="{cell}"><v>7</v></c></row></sheetData>'
    part = "xl/worksheets/sheet1.xml"
    files[part] = files[part].replace(b"</sheetData>", stray.encode())
    return make_files.make_zip(files)


@pytest.mark.parametrize("cell", ["XFD1048576", "BA1048576", "XFD3", "A1048576"])
def test_a_stray_cell_costs_no_time(cell: str) -> None:
    start = time.process_time()
    assert parse("a.xlsx", far_xlsx(cell)).text.replace(" | ", "").split() == [
        "S",
        "near",
        "below",
        "7",
    ]
    assert time.process_time() - start < 2


def test_cells_on_a_diagonal_are_refused_by_name() -> None:
    stray = "".join(
        f'<row r="{100 * n}"><c r="{chr(65 + n // 676)}{chr(65 + n // 26 % 26)}{chr(65 + n % 26)}'
        f'{100 * n}"><v>1</v></c></row>'
        for n in range(1, 10_000)
    )
    with zipfile.ZipFile(io.BytesIO(far_xlsx())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    part = "xl/worksheets/sheet1.xml"
    files[part] = files[part].replace(b"</sheetData>", f"{stray}</sheetData>".encode())
    assert refused("a.xlsx", make_files.make_zip(files)) == (
        "over a limit: cells of a sheet lie too far apart"
    )


@pytest.mark.parametrize("far", [True, False])
def test_repeated_rows_and_columns_cost_no_time(far: bool) -> None:
    def row(cells: str, times: int = 1) -> str:
        return f'<table:table-row table:number-rows-repeated="{times}">{cells}</table:table-row>'

    def cell(text: str, times: int = 1) -> str:
        return (
            f'<table:table-cell office:value-type="string" table:number-columns-repeated="{times}">'
            f"<text:p>{text}</text:p></table:table-cell>"
        )

    empty = '<table:table-cell table:number-columns-repeated="16384"/>'
    rows = row(cell("near")) + row(empty, 1 << 20)
    rows += row(cell("far")) if far else row(cell("x", 16384), 1 << 20)
    start = time.process_time()
    data = make_odf("spreadsheet", f'<table:table table:name="S">{rows}</table:table>')
    text = parse("a.ods", data).text
    assert time.process_time() - start < 5
    assert text.startswith("S\n\nnear\n")
    assert text.endswith("far" if far else "x | x")
    assert len(text) < 10_000_000


def test_merged_rows_repeat_their_value() -> None:
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        sheet = book.add_worksheet("S")
        sheet.write_row(2, 1, ["Region", "Units"])
        sheet.merge_range(3, 1, 4, 1, "North")
        sheet.write_column(3, 2, [10, 20])
    assert parse("a.xlsx", stream.getvalue()).text == (
        "S\n\nRegion | Units\nRegion: North | Units: 10\nRegion: North | Units: 20"
    )


def drawn_xlsx() -> bytes:
    stream = io.BytesIO()
    with xlsxwriter.Workbook(stream) as book:
        sheet = book.add_worksheet("S")
        sheet.write_column(0, 0, [1, 2])
        chart = book.add_chart({"type": "bar"})
        chart.add_series({"values": "=S!$A$1:$A$2", "name": "Ducks seen"})
        chart.set_title({"name": "Ducks by year"})
        sheet.insert_chart(3, 0, chart)
        sheet.insert_textbox(20, 0, "A remark", {"description": "A yellow box"})
        alone = book.add_chart({"type": "bar"})
        alone.add_series({"values": "=S!$A$1:$A$2", "name": "Alone"})
        book.add_chartsheet("Only a chart").set_chart(alone)
    return stream.getvalue()


def test_charts_and_text_boxes_follow_the_rows() -> None:
    document = parse("a.xlsx", drawn_xlsx())
    assert document.text == (
        "S\n\n1\n2\n\nDucks by year\nDucks seen\n\nA remark\n\nA yellow box\n\n"
        "Only a chart\n\nAlone"
    )
    assert len(document.page_starts) == 2


def test_a_damaged_drawing_costs_only_itself() -> None:
    with zipfile.ZipFile(io.BytesIO(drawn_xlsx())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["xl/drawings/drawing1.xml"] = b"<broken"
    document = parse("a.xlsx", make_files.make_zip(files))
    assert document.metadata["unread"] == ["drawing on sheet S"]
    assert document.text == "S\n\n1\n2\n\nOnly a chart\n\nAlone"


def test_a_sheet_that_can_not_be_read_is_named() -> None:
    with zipfile.ZipFile(io.BytesIO(make_files.make_xlsx())) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["xl/worksheets/sheet1.xml"] = b"<worksheet><sheetData><row r='x'"
    document = parse("a.xlsx", make_files.make_zip(files))
    assert document.metadata["unread"] == ["sheet Birds"]
    assert "just | words" in document.text


def test_a_sheet_with_a_wrong_checksum_is_named() -> None:
    data = bytearray(make_files.make_xlsx())
    at = data.index(b"xl/worksheets/sheet1.xml") - 30
    data[at + 14 : at + 18] = b"\0\0\0\0"
    central = data.rindex(b"xl/worksheets/sheet1.xml") - 46
    data[central + 16 : central + 20] = b"\0\0\0\0"
    document = parse("a.xlsx", bytes(data))
    assert "just | words" in document.text


def test_the_title_of_a_workbook_is_no_junk() -> None:
    for title, expected in (("Book1", "a"), ("Birds of 2024", "Birds of 2024")):
        stream = io.BytesIO()
        with xlsxwriter.Workbook(stream) as book:
            book.set_properties({"title": title})
            book.add_worksheet("S").write(0, 0, "x")
        assert parse("a.xlsx", stream.getvalue()).title == expected


@pytest.mark.parametrize(
    ("data", "format_", "text"),
    [
        (b"<html><table><tr><td>Kettle<td>3</table>", "html", "Kettle | 3"),
        (b"\xef\xbb\xbf\n<table><tr><td>Kettle<td>3</table>", "html", "Kettle | 3"),
        (b"Name\tCount\nKettle\t3\n", "table", "Name | Count\nName: Kettle | Count: 3"),
        (
            "Name\tCount\nKettle\t3\n".encode("utf-16"),
            "table",
            "Name | Count\nName: Kettle | Count: 3",
        ),
        (
            make_files.make_ods(),
            "spreadsheet",
            "Birds\n\nKind | Weight\nKind: Mallard | Weight: 1.1 kg",
        ),
    ],
)
def test_what_is_only_named_xls_is_read_for_what_it_is(
    data: bytes, format_: str, text: str
) -> None:
    document = parse("a.xls", data)
    assert (document.format, document.title) == (format_, "a")
    assert document.text.startswith(text)


SHEET_XML = """<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?>
<Workbook xmlns="urn:schemas-microsoft-com:office:spreadsheet"
 xmlns:ss="urn:schemas-microsoft-com:office:spreadsheet">
 <DocumentProperties xmlns="urn:schemas-microsoft-com:office:office"><Author>A. Author</Author>
 </DocumentProperties><Worksheet ss:Name="Birds"><Table>
 <Row><Cell><Data ss:Type="String">Kind</Data></Cell>
 <Cell><Data ss:Type="String">Seen</Data></Cell></Row>
 <Row><Cell ss:MergeDown="1"><Data ss:Type="String">Duck</Data></Cell>
 <Cell><Data ss:Type="Number">3</Data><Comment><Data>remark</Data></Comment></Cell></Row>
 <Row><Cell ss:Index="2"><Data ss:Type="Number">4</Data></Cell></Row>
 <Row ss:Index="1048576"><Cell ss:Index="16384"><Data ss:Type="String">far</Data></Cell></Row>
 </Table></Worksheet></Workbook>"""


def test_xml_of_excel_2003() -> None:
    for data in (SHEET_XML.encode(), SHEET_XML.encode("utf-16")):
        document = parse("x/a.xls", data)
        assert (document.title, document.format) == ("a", "spreadsheet")
        assert document.metadata == {"author": "A. Author"}
        assert document.text == (
            "Birds\n\nKind | Seen\nKind: Duck | Seen: 3\nKind: Duck | Seen: 4\nfar"
        )


def test_rubbish_named_xls_is_damaged() -> None:
    assert refused("a.xls", bytes(range(256)) * 20) == "damaged: not an office file"
    assert refused("a.xls", b"\x09\x04\x06\x00" + bytes(50)).startswith(
        "damaged: a format of Excel 4"
    )


def test_a_short_table_leaves_the_limit_of_others() -> None:
    before = csv.field_size_limit()
    try:
        csv.field_size_limit(1_000)
        parse("a.csv", b"a,b\n1,2\n")
        assert csv.field_size_limit() == 1_000
        long = b"x" * 5_000
        assert "x" * 5_000 in parse("a.csv", b"a,b\n" + long + b",2\n").text
    finally:
        csv.field_size_limit(before)
