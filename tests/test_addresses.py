"""Addresses in free text: where they begin and end, what they consist of, and what follows from the gazetteer."""

import csv
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from govlm.hall.addresses import Address, Divisions, find_addresses, find_divisions, parse_address

HERE = Path(__file__).resolve().parent
REAL = HERE.parent.parent / "shared" / "data" / "gazetteer" / "divisions"
PARSED = HERE.parent.parent / "shared" / "data" / "ner" / "address_parsing" / "dev.txt"
needs_real = pytest.mark.skipif(not REAL.exists(), reason="../shared/data/gazetteer is not here")

# A small folder of the same form: names of places and their codes.
AREAS = """code,name,cityCode,provinceCode
110105,"朝阳区",1101,11
220104,"朝阳区",2201,22
320106,"鼓楼区",3201,32
320302,"鼓楼区",3203,32
350102,"鼓楼区",3501,35
310106,"静安区",3101,31
440106,"天河区",4401,44
440111,"白云区",4401,44
330326,"平阳县",3303,33
330327,"苍南县",3303,33
429004,"仙桃市",4290,42
"""
STREETS = """code,name,areaCode,provinceCode,cityCode
440106021,"龙洞街道",440106,44,4401
320106010,"湖南路街道",320106,32,3201
330327101,"钱库镇",330327,33,3303
"""


@pytest.fixture(scope="module")
def divisions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("divisions")
    (folder / "areas.csv").write_text(AREAS, encoding="utf-8")
    (folder / "streets.csv").write_text(STREETS, encoding="utf-8-sig")
    (folder / "more.json").write_text(
        json.dumps([{"code": "42", "name": "湖北省", "children": [{"code": "4290", "name": "省直辖县级行政区划"}]}]),
        encoding="utf-8",
    )
    return Divisions.read(folder)


def parts(text, divisions=None):
    found = parse_address(text, divisions)
    return found.province, found.city, found.district, found.street, found.rest, found.code


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("广东省广州市天河区龙洞街道华南路18号", ("广东省", "广州市", "天河区", "龙洞街道", "华南路18号", "4401")),
        ("广州市天河区", ("广东省", "广州市", "天河区", "", "", "4401")),
        ("湖北省恩施州利川市东城街道", ("湖北省", "恩施土家族苗族自治州", "利川市", "东城街道", "", "4228")),
        ("上海市浦东新区张江镇科苑路501弄3号楼602", ("上海市", "上海市", "浦东新区", "张江镇", "科苑路501弄3号楼602", "31")),
        ("内蒙古呼伦贝尔牙克石市林源路 7 号", ("内蒙古自治区", "呼伦贝尔市", "牙克石市", "", "林源路7号", "1507")),
        ("新疆维吾尔自治区 克孜勒苏柯尔克孜自治州 阿图什市", ("新疆维吾尔自治区", "克孜勒苏柯尔克孜自治州", "阿图什市", "", "", "6530")),
        ("梧桐路27号", ("", "", "", "", "梧桐路27号", "")),
        ("东莞市长安镇振安东路１１８号", ("广东省", "东莞市", "", "长安镇", "振安东路118号", "4419")),
        ("朝阳区望京街道花家地西里15号楼", ("", "", "朝阳区", "望京街道", "花家地西里15号楼", "")),
        ("襄樊市樊城区", ("湖北省", "襄阳市", "樊城区", "", "", "4206")),
        ("南京路100号", ("", "", "", "", "南京路100号", "")),
        ("北京东路8号", ("", "", "", "", "北京东路8号", "")),
        ("浙江-杭州-滨江区江虹路1489号", ("浙江省", "杭州市", "滨江区", "", "江虹路1489号", "3301")),
        ("金华金华市义乌市工人北路12号", ("浙江省", "金华市", "义乌市", "", "工人北路12号", "3307")),
        ("苏州市相城区元和街道嘉元路959号", ("江苏省", "苏州市", "相城区", "元和街道", "嘉元路959号", "3205")),
        ("佳木斯市郊区友谊路1号", ("黑龙江省", "佳木斯市", "郊区", "", "友谊路1号", "2308")),
        ("奉化东郊开发区云峰路119号", ("", "", "", "", "奉化东郊开发区云峰路119号", "")),
        ("", ("", "", "", "", "", "")),
        ("说不清在哪", ("", "", "", "", "说不清在哪", "")),
    ],
)  # fmt: skip
def test_parts(text, wanted):
    assert parts(text) == wanted


def test_spans_lie_in_the_text_as_it_was_written():
    text = "我住在广东省广州市天河区龙洞街道 华南路 18 号，谢谢"
    found = parse_address(text)
    assert {part: text[slice(*span)] for part, span in found.spans.items()} == {
        "province": "广东省", "city": "广州市", "district": "天河区", "street": "龙洞街道", "rest": "华南路 18 号",
    }  # fmt: skip
    assert "province" not in parse_address("广州市天河区天河路1号").spans


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("天河区龙洞街道", ("广东省", "广州市", "天河区", "龙洞街道", "", "440106021")),
        ("天河区华南路18号", ("广东省", "广州市", "天河区", "", "华南路18号", "440106")),
        ("鼓楼区中山路1号", ("", "", "鼓楼区", "", "中山路1号", "")),
        ("朝阳区望京街道", ("", "", "朝阳区", "望京街道", "", "")),
        ("南京市鼓楼区中山路1号", ("江苏省", "南京市", "鼓楼区", "", "中山路1号", "320106")),
        ("福建鼓楼区", ("福建省", "福州市", "鼓楼区", "", "", "350102")),
        ("鼓楼区湖南路街道", ("江苏省", "南京市", "鼓楼区", "湖南路街道", "", "320106010")),
        ("温州苍南钱库镇三岔村58号", ("浙江省", "温州市", "苍南县", "钱库镇", "三岔村58号", "330327101")),
        ("上海静安区", ("上海市", "上海市", "静安区", "", "", "310106")),
        ("湖北仙桃市", ("湖北省", "", "仙桃市", "", "", "429004")),
    ],
)  # fmt: skip
def test_a_district_tells_its_city_unless_several_bear_its_name(text, wanted, divisions):
    assert parts(text, divisions) == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("上海市闸北区共和新路1号", "“闸北区”已不再使用，现为静安区"),
        ("湖北省襄樊市", "“襄樊市”已不再使用，现为襄阳市"),
        ("广州市天何区华南路1号", "没有“天何区”，是不是“天河区”？"),
        ("浙江省温州市仓南县", "没有“仓南县”，是不是“苍南县”？"),
    ],
)  # fmt: skip
def test_old_and_wrong_names_are_told(text, said, divisions):
    assert parse_address(text, divisions).notes == (said,)


def test_right_names_are_not_told(divisions):
    for text in ("广州市天河区华南路1号", "温州市苍南县", "南京市鼓楼区", "梧桐路27号"):
        assert parse_address(text, divisions).notes == ()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("我住在天河区龙洞街道华南路18号附近", ["天河区龙洞街道华南路18号"]),
        ("户口在武汉市洪山区民族大道182号的房子里", ["武汉市洪山区民族大道182号"]),
        ("地址是梧桐路27号怎么办", ["梧桐路27号"]),
        ("租了解放路5号院3号楼2单元101室，房东不给开证明", ["解放路5号院3号楼2单元101室"]),
        ("从南京市玄武区丹凤街68号搬到苏州市姑苏区平江路11号", ["南京市玄武区丹凤街68号", "苏州市姑苏区平江路11号"]),
        ("原来苏州市吴中区木渎镇金枫路216号", ["苏州市吴中区木渎镇金枫路216号"]),
        ("曹县青菏街道五里墩村东头第三家", ["曹县青菏街道五里墩村东头第三家"]),
        ("比赛地点为中原路103号", ["中原路103号"]), ("房子位于于都县贡江镇长征大道5号", ["于都县贡江镇长征大道5号"]),
        ("现住南京市玄武区铁路新村12栋3单元502室", ["南京市玄武区铁路新村12栋3单元502室"]),
        ("开在南京市玄武区菜市口18号", ["南京市玄武区菜市口18号"]), ("出了门口18号", []), ("去窗口5号办", []), ("从大门3号进", []), ("东出口2号", []),
        ("住所南京市玄武区沿江路30号", ["南京市玄武区沿江路30号"]), ("铁路公安处", []), ("坐铁路去小区", []),
        ("杭州市房管局根据市里的通知", []), ("山东省政府对农村的补贴", []), ("重庆分行试点信用村", []),
        ("美丽乡村建设村实施道路硬化", []), ("黄星大道从盼盼路至滨湖路", []), ("并且解放路5号停水", ["解放路5号"]),
        ("但麓谷小镇物业却违法出售小区内车位", []), ("将继续加大县级公路的监控", []), ("之前投诉过科教新村4区10栋", []),
        ("福建将乐县古镛镇华山路3号", ["福建将乐县古镛镇华山路3号"]),
        ("住A座1203", []), ("我家在农村", []), ("小区5号楼停水了", []), ("去超市3楼", []), ("全市12个区", []), ("坐公交到市区", []),
        ("盖章单位杭州市余杭区五常街道办事处", []), ("西宁市城东区残疾人联合会", []), ("孩子在桂城街道中心小学念书", []),
        ("广州", []), ("广东省人民政府", []), ("三号窗口", []), ("一号线路过", []), ("我知道5号截止", []), ("", []), ("区", []), ("🙂号", []),
    ],
)  # fmt: skip
def test_where_an_address_begins_and_ends(text, wanted):
    assert [text[found.start : found.end] for found in find_addresses(text)] == wanted


@pytest.mark.parametrize("with_districts", [False, True])
def test_the_cases_of_the_hall(with_districts, divisions):
    """F1 of the addresses, whole: at least 95 %; and none in sentences that hold none."""
    hits, wrong = 0, []
    for line in (HERE / "hall" / "slots.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        wanted = {(slot["start"], slot["end"]) for slot in row["slots"] if slot["kind"] == "address"}
        found = {(each.start, each.end) for each in find_addresses(row["text"], divisions if with_districts else None)}
        hits += len(wanted & found)
        wrong += [row["text"][start:end] for start, end in wanted ^ found]
    assert 2 * hits / (2 * hits + len(wrong)) >= 0.95, wrong
    for name in ("out_of_scope", "business"):
        for line in (HERE / "hall" / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            assert find_addresses(json.loads(line)["text"]) == [], line


def test_divisions_by_name_and_code(divisions):
    assert [d.code for d in divisions.named("鼓楼区")] == ["320106", "320302", "350102"]
    assert [d.code for d in divisions.named("恩施州")] == ["4228"] and divisions.named("恩施", "city", "42")[0].name.startswith(
        "恩施土家"
    )
    assert {d.level for d in divisions.named("吉林")} == {"province", "city"}
    assert divisions.get("440106021").name == "龙洞街道" and divisions.get("9999") is None
    text = "从广东的佛山到内蒙古"
    assert [(text[a:b], [d.code for d in owners]) for a, b, owners in find_divisions(text)] == [
        ("广东", ["44"]), ("佛山", ["4406"]), ("内蒙古", ["15"]),
    ]  # fmt: skip


def test_a_folder_that_holds_no_divisions_says_so(tmp_path):
    with pytest.raises(ValueError, match=r"no \.csv and no \.json"):
        Divisions.read(tmp_path)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.csv: no row with `code`"):
        Divisions.read(tmp_path)
    (tmp_path / "a.csv").unlink()
    for bad in ("{", '{"code": "11"}', "[1, 2]"):
        (tmp_path / "b.json").write_text(bad, encoding="utf-8")
        with pytest.raises(ValueError, match=r"b\.json"):
            Divisions.read(tmp_path)
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="cannot be read"):
        Divisions.read(tmp_path)


@given(st.text("广东省州市天河区龙洞街道路村1２号栋 -在我住\n，北京朝阳", max_size=60))
def test_spans_are_in_order_and_in_the_text(text):
    end = 0
    for found in find_addresses(text):
        assert end <= found.start < found.end <= len(text)
        assert all(found.start <= a < b <= found.end for a, b in found.address.spans.values())
        end = found.end
    assert isinstance(parse_address(text), Address)


def test_long_text_takes_time_in_proportion():
    """A quadratic search, or one that recurses, would not return."""
    for piece in ("1", " ", "中", "中区", "在", "金华市", "金华", "路1号", "家住天河区龙洞街道华南路18号，"):
        find_addresses(piece * (100_000 // len(piece)))


@needs_real
def test_the_bundled_codes_are_the_published_ones():
    published = {
        row["code"]: row["name"]
        for file in ("provinces.json", "cities.json")
        for row in json.loads((REAL / file).read_text("utf-8"))
    }
    bundled = Divisions.bundled()
    table = {"市辖区", "县", "省直辖县级行政区划", "自治区直辖县级行政区划"}
    assert [code for code, name in published.items() if name not in table and (bundled.get(code) or ("",) * 2)[1] != name] == []
    ours = [
        row.split("\t")[0]
        for row in (HERE.parent / "govlm/assets/divisions/cities.tsv").read_text("utf-8").splitlines()
        if row[0] != "#"
    ]
    assert set(ours) - set(published) == {"71", "81", "82"}


@needs_real
def test_abolished_names_are_gone_and_their_heirs_are_there():
    real = Divisions.read(REAL)
    for line in (HERE.parent / "govlm/assets/divisions/abolished.tsv").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            province, old, new = line.split("\t")
            assert real.named(old, within=province) == [] and real.named(new, within=province), line


@needs_real
def test_every_district_is_read_in_its_city():
    """Of all 2,978: province, city and district written out are split so, and the code is the right one."""
    real = Divisions.read(REAL)
    with (REAL / "areas.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    wrong = []
    for row in rows:
        names = [real.get(row["code"][:size]) for size in (2, 4)]
        text = "".join(d.name for d in names if d) + row["name"] + "中山路1号"
        if parse_address(text, real).code != row["code"]:
            wrong.append(text)
    assert len(rows) > 2900 and len(wrong) <= len(rows) // 100, wrong


@pytest.mark.skipif(not PARSED.exists(), reason="../shared/data/ner/address_parsing is not here")
def test_levels_on_real_addresses():
    """F1 of 2,000 addresses of shoppers, spans exact: 0.85 by form alone."""
    hits = wrong = 0
    levels = {"prov": "province", "city": "city", "district": "district", "town": "street"}
    for block in PARSED.read_text(encoding="utf-8").split("\n\n")[:2000]:
        rows = [line.rsplit(" ", 1) for line in block.splitlines()]
        text = "".join(char for char, _ in rows)
        wanted: dict[str, tuple[int, int]] = {}
        for i, (_, tag) in enumerate(rows):
            level = levels.get(tag[2:])
            if level and tag[0] == "B":
                wanted.setdefault(level, (i, i + 1))
            elif level and level in wanted and wanted[level][1] == i:
                wanted[level] = (wanted[level][0], i + 1)
        found = {level: span for level, span in parse_address(text).spans.items() if level != "rest"}
        hits += len(wanted.items() & found.items())
        wrong += len(wanted.items() ^ found.items())
    assert 2 * hits / (2 * hits + wrong) >= 0.85
