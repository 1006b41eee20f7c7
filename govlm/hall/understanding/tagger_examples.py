"""Sentences of citizens that the tagger learns from, made from the patterns below with drawn names, places and organisations.

No name is anybody's: family names are drawn by how common they are, given names from their characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from govlm.hall.understanding.name_parts import DOUBLE_FAMILY_NAMES, FAMILY_NAMES, GIVEN

__all__ = ["Example", "make_examples", "renamed"]

Example = tuple[str, list[tuple[str, int, int]]]  # text, (kind, start, end)

_KIN = [
    "老公",
    "老婆",
    "丈夫",
    "妻子",
    "爱人",
    "爸",
    "爸爸",
    "妈",
    "妈妈",
    "父亲",
    "母亲",
    "爷爷",
    "奶奶",
    "外公",
    "外婆",
    "姥姥",
    "姥爷",
    "儿子",
    "女儿",
    "闺女",
    "孩子",
    "娃",
    "哥",
    "哥哥",
    "弟",
    "弟弟",
    "姐",
    "姐姐",
    "妹",
    "妹妹",
    "媳妇",
    "婆婆",
    "公公",
    "岳父",
    "岳母",
    "孙子",
    "孙女",
    "舅舅",
    "姑姑",
    "叔叔",
    "室友",
    "同事",
    "朋友",
    "邻居",
    "对象",
    "老伴",
    "表哥",
    "侄子",
    "外甥",
    "老丈人",
    "姑娘",
    "小孩",
    "大伯",
    "二叔",
    "三姨",
    "师傅",
]
_ROLES = [
    "申请人",
    "联系人",
    "经办人",
    "负责人",
    "代办人",
    "监护人",
    "法人",
    "法定代表人",
    "户主",
    "收件人",
    "配偶",
    "持卡人",
    "开户人",
    "产权人",
    "权利人",
    "委托人",
    "受托人",
    "当事人",
    "投诉人",
    "举报人",
    "参保人",
    "被保险人",
    "受益人",
    "房东",
    "租客",
    "班主任",
    "校长",
    "村长",
    "死者",
    "患者",
    "学生",
    "家长",
    "紧急联系人",
    "共有人",
    "承租人",
    "出租人",
    "借款人",
    "股东",
    "经营者",
    "用人单位联系人",
    "领取人",
]
_TITLES = [
    "先生",
    "女士",
    "同志",
    "老师",
    "同学",
    "师傅",
    "医生",
    "大夫",
    "主任",
    "局长",
    "书记",
    "经理",
    "院长",
    "校长",
    "科长",
    "警官",
    "律师",
    "村长",
    "阿姨",
    "大爷",
    "大妈",
    "老师傅",
    "站长",
]
_BIRTH = [
    "户口",
    "社保",
    "医保",
    "低保",
    "身份证",
    "居住证",
    "退休",
    "结婚登记",
    "公积金",
    "护照",
    "营业执照",
    "生育津贴",
    "学籍",
    "驾照",
    "残疾证",
    "房产证",
    "落户",
    "养老金",
    "老年证",
    "离婚",
    "过户",
    "失业金",
    "报销",
    "转学",
    "学位",
    "健康证",
    "许可证",
]
_CITIES = [
    "北京",
    "上海",
    "广州",
    "深圳",
    "杭州",
    "南京",
    "成都",
    "武汉",
    "西安",
    "长沙",
    "郑州",
    "合肥",
    "济南",
    "青岛",
    "福州",
    "厦门",
    "南昌",
    "昆明",
    "贵阳",
    "兰州",
    "太原",
    "石家庄",
    "沈阳",
    "大连",
    "长春",
    "哈尔滨",
    "乌鲁木齐",
    "拉萨",
    "呼和浩特",
    "银川",
    "西宁",
    "海口",
    "南宁",
    "苏州",
    "无锡",
    "宁波",
    "温州",
    "佛山",
    "东莞",
    "绵阳",
    "洛阳",
    "开封",
    "徐州",
    "扬州",
    "宜昌",
    "柳州",
    "桂林",
    "遵义",
    "大理",
    "喀什",
    "临沂",
    "烟台",
    "潍坊",
    "保定",
    "唐山",
]
_PLACE_SYLLABLES = [
    "龙",
    "凤",
    "石",
    "金",
    "银",
    "玉",
    "青",
    "白",
    "黄",
    "红",
    "大",
    "小",
    "新",
    "老",
    "东",
    "西",
    "南",
    "北",
    "上",
    "下",
    "中",
    "长",
    "高",
    "平",
    "安",
    "永",
    "兴",
    "福",
    "和",
    "光",
    "明",
    "华",
    "文",
    "武",
    "德",
    "仁",
    "义",
    "清",
    "溪",
    "河",
    "江",
    "湖",
    "山",
    "岭",
    "坪",
    "坝",
    "桥",
    "塘",
    "井",
    "泉",
    "林",
    "松",
    "柳",
    "桃",
    "梅",
    "竹",
    "莲",
    "荷",
    "花",
    "云",
    "水",
    "沙",
    "田",
    "岗",
    "坡",
    "台",
    "港",
    "湾",
    "城",
    "关",
    "门",
    "堂",
    "寺",
    "庙",
    "马",
    "牛",
    "羊",
    "鹤",
    "虎",
    "丰",
    "利",
    "祥",
    "瑞",
    "春",
    "秋",
    "嘉",
    "宝",
    "顺",
    "康",
    "宁",
]
_SHOPS = [
    "鑫",
    "宏",
    "盛",
    "达",
    "旺",
    "源",
    "泰",
    "恒",
    "诚",
    "信",
    "佳",
    "美",
    "乐",
    "天",
    "海",
    "润",
    "腾",
    "飞",
    "创",
    "联",
    "合",
    "众",
    "优",
    "品",
    "星",
    "辰",
    "阳",
    "光",
    "福",
    "来",
    "顺",
    "隆",
    "昌",
    "兴",
    "隆",
    "华",
    "康",
    "宁",
    "安",
    "瑞",
    "丰",
    "百",
    "汇",
    "德",
    "邦",
    "科",
    "创",
    "凯",
    "迪",
    "正",
    "大",
    "亿",
    "万",
    "家",
    "和",
    "味",
    "香",
    "园",
    "友",
]
_FIELDS = [
    "科技",
    "信息技术",
    "网络",
    "商贸",
    "贸易",
    "建筑工程",
    "装饰",
    "物流",
    "运输",
    "餐饮管理",
    "食品",
    "农业发展",
    "文化传播",
    "广告",
    "教育咨询",
    "人力资源",
    "劳务",
    "物业管理",
    "机械制造",
    "电子",
    "服装",
    "家具",
    "医疗器械",
    "环保",
    "房地产开发",
    "汽车服务",
    "电力",
    "化工",
    "纺织",
    "旅游",
    "家政服务",
    "实业",
    "投资",
    "生物科技",
    "电器",
    "五金",
    "园林绿化",
    "健身",
    "传媒",
]
_STORES = [
    "便利店",
    "小吃店",
    "饭店",
    "餐馆",
    "面馆",
    "火锅店",
    "烧烤店",
    "超市",
    "药店",
    "药房",
    "理发店",
    "美发店",
    "奶茶店",
    "服装店",
    "五金店",
    "水果店",
    "早餐店",
    "宾馆",
    "酒店",
    "民宿",
    "诊所",
    "口腔诊所",
    "网吧",
    "修理厂",
    "家具厂",
    "食品厂",
    "服装厂",
    "砖厂",
    "养殖场",
    "农场",
    "农家乐",
    "幼儿园",
    "托管班",
    "培训中心",
    "培训学校",
    "工作室",
    "商行",
    "经营部",
    "批发部",
    "快餐店",
    "烘焙坊",
    "花店",
    "书店",
    "眼镜店",
    "棋牌室",
    "洗车行",
    "文印店",
    "茶楼",
    "美容院",
    "养老院",
    "敬老院",
    "律师事务所",
    "会计师事务所",
    "专业合作社",
]
_BODIES = [
    "公安局",
    "民政局",
    "税务局",
    "人社局",
    "社保局",
    "医保局",
    "教育局",
    "市场监督管理局",
    "住建局",
    "自然资源局",
    "交通运输局",
    "卫健委",
    "残联",
    "不动产登记中心",
    "政务服务中心",
    "车管所",
    "就业服务中心",
    "公积金管理中心",
    "人民法院",
    "人民检察院",
    "农业农村局",
    "城管局",
    "司法局",
    "应急管理局",
    "退役军人事务局",
    "行政审批局",
    "信访局",
    "公证处",
    "供电局",
    "水务局",
]
_SCHOOLS = [
    "第一中学",
    "第二小学",
    "实验小学",
    "实验中学",
    "中心小学",
    "第三幼儿园",
    "职业技术学院",
    "师范大学",
    "理工大学",
    "医科大学",
    "大学",
    "农业大学",
    "人民医院",
    "中医院",
    "第一人民医院",
    "妇幼保健院",
    "中心医院",
    "卫生院",
    "社区卫生服务中心",
    "机关幼儿园",
    "高级中学",
    "外国语学校",
    "附属中学",
    "技工学校",
    "财经大学",
    "交通职业学院",
    "图书馆",
]
_BANKS = [
    "中国银行",
    "工商银行",
    "中国工商银行",
    "农业银行",
    "中国农业银行",
    "建设银行",
    "交通银行",
    "邮储银行",
    "招商银行",
    "农村商业银行",
    "农村信用社",
    "民生银行",
    "浦发银行",
    "平安银行",
    "中信银行",
]
_VILLAGES = [
    "居委会",
    "村委会",
    "社区居委会",
    "居民委员会",
    "村民委员会",
    "街道办",
    "街道办事处",
    "派出所",
    "镇政府",
    "乡政府",
    "人民政府",
    "党群服务中心",
]

# {n} a person, {o} an organisation, {a} an address, {k} kin, {r} a role, {t} a title, {s} a matter, {c} a city, {d} figures of a card or a phone.
_PATTERNS = """我叫{n}
{n}没带身份证能办吗
{n}要退休了
{n}明天过来拿
{n}昨天交的材料审了没
{n}不在家，谁能签
{n}还没成年
{n}在外地回不来
{n}走不动路，能上门吗
{n}已经死了
{n}是我{k}
{n}是我们村的
{n}就是我
{n}那个{s}批下来没
{n}家的低保
{n}户口本上写的是{k}
{n} {n} {n}三个人都要办
{n}（{k}）
{k}（{n}）
{k}{n}
{k}{n}，{d}
{k}：{n}
{k}姓名{n}
{k}是{n}，{y}岁
户口本上是{n}
证上名字是{n}
去年给{n}办的{s}
上次{n}帮我弄的
窗口的{n}说可以
一个叫{n}的人
有个叫{n}的冒用我身份
有人用{n}的名字登记了
把{n}加进来
把{n}的户口迁走
把{n}从户口本上删掉
加上{n}
再加一个人，{n}
还有{n}
还有我{k}{n}
以前登记的{n}，不是我
请把{r}换成{n}
由{n}代我签字
委托{n}去办
委托书写的{n}
借钱给{n}，他不还
告{n}
被{n}打了
租{n}的房子
房子是{n}的
买了{n}的车
车在{n}名下
车主{n}
驾驶员{n}
跟{n}合伙开店
老板叫{n}
老板{n}不发工资
{f}{g1}{g1}，两个字一样
是{n}不是{n}
对，{n}
嗯 {n}
我就是{n}啊
这是{n}的电话{d}
{n}电话{d}
{n}身份证{d}
身份证{d} {n}
{d}，{n}，{a}
{n}男{y}岁
{n}女{y}岁{c}人
名：{n}
全名{n}
真名{n}
中文名{n}
我大名{n}
我儿{n}今年上学
我女{n}满月了
我俩孩子，{n}、{n}
双胞胎，一个叫{n}，一个叫{n}
二胎取名{n}
宝宝取名{n}
宝宝叫{n}，想上户口
给孩子取名{n}能行吗
{o}
是{o}
在{o}
{o}的
{o}{n}
{o}，{n}
{n}，{o}
{n}在{o}上班
{n}是{o}的法人
我{k}是{o}的老师
我{k}单位{o}
以前在{o}干活
在{o}打工{y}年了
在{o}当保安
在{o}做保洁
在{o}实习
被{o}辞退了
{o}把我开除了
{o}克扣工资
{o}卖假药
{o}太吵了，没人管
{o}门口乱停车
{o}排污水
给{o}开发票
给{o}变更{r}
把{o}注销
注册{o}
想注册一个{o}
打算成立{o}
代表{o}来办
受{o}委托
我替{o}问一下
{o}能不能办{s}
{o}可以开证明不
{o}周末开不开
{o}在哪
离{o}远不远
{o}对面那个
{o}开的证明
{o}发的{s}
考上了{o}
孩子考上{o}，户口要迁吗
在{o}念书
读{o}
就读于{o}
从{o}毕业
转院到{o}
在{o}看病
在{o}生的孩子
{o}能报销吗
工资是{o}发的
银行卡{o}的
存在{o}
贷款在{o}办的
跟{o}买的房
原单位{o}
新单位{o}
现单位{o}，原单位{o}
{o}和{o}哪个近
{o}改名{o}
隶属{o}
招聘单位{o}
房子在{a}
我家{a}
老家{a}
老房子在{a}，拆了
{a}停水了
{a}路灯坏了
在{a}开店
店开在{a}
店在{a}，叫{o}
{a}这边归哪里管
送到{a}
{n}住在{a}
{a}{n}
我叫{n}，想问下{s}怎么办
俺叫{n} 俺是来办{s}的
我是{n}，{s}办好了没
我是{o}的{n}，来问{s}
你好我是{n}
您好，我叫{n}，今年{y}岁
姓名{n}
姓名：{n}
姓名：{n}，电话{d}
名字写{n}
名字就填{n}吧
我名字是{n}，身份证号{d}
本人{n}，男，汉族
本人{n}，女，{y}岁，家住{a}
本人姓{f}，想咨询{s}
{n}
{n}，{d}
{n} {d}
{n} {d} {a}
{a} {n} {d}
{n}，住{a}
{n}，这个姓不常见
{n}的{s}什么时候能办好
{n}的{k}
{n}和{n}一起来办{s}
{n}、{n}两个人
{n}跟{n}都要签字吗
{n}今天来过窗口
{n}没来，我替他办
{n}{t}在吗
找{n}{t}
是{n}{t}接待我的
帮我查一下{n}的{s}
帮{n}办{s}
给{n}开个证明
替{n}领一下{s}
替我{k}{n}办{s}
代{n}办理{s}
我{k}{n}去年走的
我{k}叫{n}
我{k}叫{n}，{y}岁了，要办{s}
我{k}{n}要{s}
我{k}{n}的{s}丢了
我{k}{n}在{o}上班
我{k}{n}住院了
我{k}名字叫{n}，我{k}叫{n}
他{k}{n}也来
俺{k}叫{n}，俺{k}叫{n}
咱{k}{n}都{y}了还能办吗
娃叫{n}，在{o}读书
孩子{n}在{o}上学
孩子叫{n}，上面有个{k}叫{n}
小孩名字{n}，想转到{o}
{r}{n}
{r}：{n}
{r}是{n}
{r}叫{n}，电话{d}
{r}姓名 {n}
{r}写{n}，{r}写{n}
{r}填{n}行不行
{r}{n}已经签字了
{r}改成{n}
{r}由{n}变更为{n}
户主填{n}，与户主关系是{k}
公司{r}是{n}
{o}的{r}是{n}
从{n}过户给{n}
{n}过户给{k}{n}
把房子过户到{n}名下
房子登记在{n}名下
名下写的是{n}
房产证上是{n}和{n}
受益人写我{k}{n}
我和{n}要结婚
我和{n}去年在{c}领的证
我跟{n}离婚了，孩子归我
男方{n}，女方{n}
新郎{n} 新娘{n}
不是{f}{g1}，是{n}
不对，名字是{n}
名字写错了，应该是{n}
原来叫{n}，现在改名{n}
曾用名{n}
我改名叫{n}了
{g1}字写错了，我叫{n}
我姓{f}，叫{n}
联系{n}，电话{d}
电话{d}，{n}
请让{n}给我回电话{d}
有事打{d}找{n}
收件人{n}，地址{a}
寄给{n}，{a}
快递寄到{a}，{n}收
{n}收
住{a}的{n}
举报{n}占道经营
投诉{o}的{n}态度差
投诉{o}不给交社保
举报{o}拖欠工资
{o}欠我{y}个月工资
我在{o}上班
我在{o}上班，{s}怎么交
我在{o}工作了{y}年
我是{o}的员工
我是{o}的
我们单位是{o}
单位{o}
单位名称：{o}
工作单位{o}，职务会计
用人单位{o}，{r}{n}
公司叫{o}
公司名字想叫{o}
公司全称{o}，要注销
店名叫{o}
我开的店叫{o}
我开了家{o}，要办{s}
想开一家店，名字叫{o}
我要给{o}办{s}
{o}要注销，需要什么材料
{o}的营业执照丢了
{o}，信用代码{d}
{o}在{a}
{o}的地址变更到{a}
{o}搬到{a}了
注册地址{a}，名称{o}
从{o}跳槽到{o}，{s}怎么转
原来在{o}，现在去{o}了
我从{o}离职了
{o}给我交的{s}
{o}倒闭了，{s}怎么办
开户行{o}
开户行是{o}，卡号{d}
卡号{d}，{o}
在{o}开的户
我的卡是{o}的
发票抬头{o}
抬头写{o}
毕业于{o}
我{k}在{o}读书
我{k}在{o}住院
我想让孩子读{o}
孩子从{o}转到{o}
{o}怎么走
{o}几点上班
{o}的电话是多少
去{o}办还是去{o}办
{o}说要我来这里
{o}让我找{n}
{o}不给我开证明
{o}盖的章行不行
{o}出的证明，{r}{n}签字
我去{o}问过，说办不了
我跟{o}签的合同
和{o}有纠纷
{c}的{o}
住{a}，想办{s}
我住在{a}
我家在{a}
家住{a}，{k}叫{n}
户口在{a}，人在{c}
户口从{a}迁到{a}
从{a}搬到{a}
地址{a}
地址：{a}
住址 {a}
现住址{a}，户籍{c}
地址改成{a}
不是{a}，是{a}
{a}
{a}，电话{d}
{a}附近有没有办{s}的
{a}归哪个派出所管
{a}的房子能落户吗
我在{a}租房
我在{a}买了房，写{n}的名字
房子坐落{a}，产权人{n}
{a}漏水没人管
{a}有人违建，举报人{n}
我是{c}人，想在{c}办{s}
我老家{c}的，现在在{c}上班
我从{c}来的，{s}怎么转
{c}的{s}能转过来吗
{s}要什么材料
{s}怎么办
{s}在哪里办
{s}要多少钱
{s}多久能下来
{s}要本人去吗，{k}代办行不行
我{k}要办{s}
我{k}退休了，{s}怎么办
我{k}今年{y}岁，能办{s}不
我{k}的{s}丢了咋补
我{k}去世了，{s}怎么处理
我和我{k}都要办{s}
我家{k}不在本地
{r}要到场吗
{r}能不能换人
{r}的身份证要复印几份
{r}是谁
{t}您好，问一下{s}
{t}，{s}需要带啥
我们公司要办{s}
这家公司不给交{s}
我单位没有给我办{s}
公司注销了{s}怎么办
我们学校要开证明
派出所说不给办{s}
社保局几点下班
去医院报销要啥
居委会开的证明能用吗
村委会不给盖章怎么办
银行流水要打多久的
哪个银行能办社保卡
附近的医院能体检吗
幼儿园报名要什么材料
想给孩子找个小学
公积金中心在哪
法院的判决书能当证明吗
我叫啥不重要，先问{s}
名字能改吗
我想改名字
姓名写错了怎么改
叫我来这里办{s}
我是来办{s}的
我是本地户口
我是外地人
我是个体户，想办{s}
我是应届毕业生
我是退役军人
我是残疾人
我是低保户，有{s}补贴没
本人想办{s}
本人未婚，想开证明
孩子叫什么名字都行吗
老人高龄补贴怎么领
高中毕业能报吗
时间来得及吗
方便告诉我一下吗
温馨提示看不懂
关于{s}我想问问
明天上班吗
任何人都能查吗
金额是多少
安全证怎么考
都来办{s}的
和老婆一起去行吗
万一{s}没过怎么办
谢谢
谢谢你
谢谢您，麻烦了
好的，明白了
于是我就来问了
常住人口登记表在哪打
陈述材料写几份
程序太复杂了
黄标车还能上路吗
白天有人吗
江苏的驾照能换吗
马上就要用
路上堵车晚点到
高龄老人怎么认证
周末开门不
周一到周五都行吧
方案什么时候出
石油公司招人吗
金融社保卡怎么激活
常见问题在哪看
成人高考报名
温泉证有吗
何时能拿到{s}
何种情况不能办
向领导反映{s}的事
华侨怎么办{s}
梅雨季节房子漏水
万元以上怎么交
余额怎么查
牛羊养殖要办证吗
汤圆厂要许可证吗
钱怎么退
钱包丢了，{s}也在里面
安置房能过户吗
易地搬迁补助
毛坯房能落户吗
武术学校要什么资质
任职证明怎么开
连续交了{y}年社保
孔子学院的证明
龙年出生的孩子
姓王的那个工作人员
姓{f}的{t}让我来的
小{f}在吗
老{f}让我来问
{f}{t}在不在
{f}{t}让我来的
我姓{f}
我免贵姓{f}，{s}找谁""".splitlines()

_MINORITY = (
    (["次仁", "扎西", "卓玛", "旺堆", "央金", "拉姆", "洛桑", "德吉", "尼玛", "格桑", "多吉", "白玛", "丹增", "达瓦", "平措", "梅朵", "顿珠", "索朗", "仁青", "曲珍"], ""),
    (["买买提", "阿依古丽", "热依汗", "吐尔逊", "阿不都拉", "艾合买提", "古丽娜尔", "帕提曼", "玉素甫", "依不拉音", "迪丽努尔", "木合塔尔", "阿迪力", "阿尔孜古丽", "库尔班", "麦麦提", "图尔荪", "努尔兰", "赛力克", "巴哈尔", "哈里克", "米娜瓦尔", "热合曼", "沙吾提", "加马力"], "·"),
    (["巴特尔", "其其格", "乌兰", "斯琴", "高娃", "苏和", "额尔德尼", "那仁", "朝鲁", "娜仁花", "布和", "孟根", "萨仁", "格日勒", "塔娜", "哈斯", "宝音", "图雅", "阿拉坦", "乌日娜"], ""),
    (["约翰", "史密斯", "玛丽", "安娜", "迈克尔", "戴维", "彼得", "艾米丽", "布朗", "威廉", "詹姆斯", "托马斯", "索菲亚", "伊万", "安德烈", "卡洛斯", "罗伯特", "琼斯", "米勒", "马丁", "露西", "克里斯", "杰克逊"], "·"),
)  # fmt: skip


class _Drawn:
    """Names drawn with one generator."""

    def __init__(self, seed: int, places: Sequence[str], addresses: Sequence[str]) -> None:
        self.random = np.random.Generator(np.random.PCG64(seed))
        self.places, self.addresses = places, addresses
        rank = 1 / (np.arange(len(FAMILY_NAMES)) + 12.0)
        self.family_shares = rank / rank.sum()

    def one(self, of: Sequence[str]) -> str:
        return of[int(self.random.integers(len(of)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def family(self) -> str:
        if self.chance(0.04):
            return self.one(DOUBLE_FAMILY_NAMES)
        return FAMILY_NAMES[int(self.random.choice(len(FAMILY_NAMES), p=self.family_shares))]

    def given(self) -> str:
        first = self.one(GIVEN)
        if self.chance(0.18):
            return first
        return first * 2 if self.chance(0.05) else first + self.one(GIVEN)

    def person(self) -> str:
        if self.chance(0.05):
            parts, sign = _MINORITY[int(self.random.integers(len(_MINORITY)))]
            names = [self.one(parts), self.one(parts)]
            return (self.one("··•") if sign else "").join(names)
        return self.family() + self.given()

    def figures(self) -> str:
        return "1" + "".join(str(n) for n in self.random.integers(0, 10, self.one((9, 10, 10, 10, 17, 17, 18))))  # type: ignore[call-overload]

    def syllables(self, of: Sequence[str], least: int, most: int) -> str:
        return "".join(self.one(of) for _ in range(int(self.random.integers(least, most + 1))))

    def place(self) -> str:
        """A division, full or short, now and then none."""
        return (
            "" if self.chance(0.25) else self.one(self.places) if self.chance(0.6) else self.one(_CITIES) + self.one(("市", ""))
        )

    def local(self) -> str:
        return self.syllables(_PLACE_SYLLABLES, 2, 2)

    def organisation(self) -> str:
        kind = self.random.random()
        if kind < 0.28:
            return f"{self.place()}{self.syllables(_SHOPS, 2, 3)}{self.one(_FIELDS) if self.chance(0.8) else ''}" + self.one(
                (
                    "有限公司",
                    "有限公司",
                    "有限责任公司",
                    "公司",
                    "集团",
                    "股份有限公司",
                    "有限公司" + self.one(_CITIES) + "分公司",
                )
            )
        if kind < 0.5:
            owner = self.family() + self.one(("记", "氏", "家", "姐", "哥", "老三", "师傅", "大妈")) if self.chance(0.3) else ""
            return f"{self.place() if self.chance(0.3) else ''}{owner or self.syllables(_SHOPS if self.chance(0.7) else _PLACE_SYLLABLES, 2, 3)}{self.one(_STORES)}"
        if kind < 0.62:
            return (
                f"{self.one(self.places) if self.chance(0.7) else self.one(_CITIES) + self.one(('市', ''))}{self.one(_BODIES)}"
            )
        if kind < 0.8:
            return f"{self.one(self.places) if self.chance(0.5) else self.one(_CITIES) + self.one(('市', ''))}{self.local() if self.chance(0.3) else ''}{self.one(_SCHOOLS)}"
        if kind < 0.9:
            return self.one(_BANKS) + (
                f"{self.one(_CITIES) if self.chance(0.5) else ''}{self.local()}{self.one(('支行', '分行', '营业部', '分理处'))}"
                if self.chance(0.7)
                else ""
            )
        return f"{self.place() if self.chance(0.3) else ''}{self.local()}{self.one(('村', '社区', '镇', '街道', '路', ''))}{self.one(_VILLAGES)}"

    def address(self) -> str:
        if self.addresses and self.chance(0.6):
            return self.one(self.addresses)
        number = int(self.random.integers(1, 400))
        head = self.one(_CITIES) + self.one(("市", "市", "")) if self.chance(0.5) else ""
        head += self.local() + self.one(("区", "区", "县", "镇", "街道")) if self.chance(0.7) or not head else ""
        rest = self.one((
            f"{self.local()}路{number}号", f"{self.local()}街{number}号", f"{self.local()}{self.one(('花园', '小区', '苑', '家园', '新村', '公寓', '府'))}{number}栋{number % 30 + 1}0{number % 4 + 1}",
            f"{self.local()}村{number % 12 + 1}组", f"{self.local()}大道{number}号{self.local()}大厦{number % 20 + 1}楼", f"{self.local()}巷{number}号{number % 9 + 1}单元{number % 6 + 1}0{number % 3 + 1}室",
            f"{self.local()}镇{self.local()}村{number}号", f"{self.local()}路{number}弄{number % 20 + 1}号{number % 6 + 1}0{number % 3 + 1}室",
        ))  # fmt: skip
        return head + rest


def make_examples(count: int, seed: int, places: Sequence[str], addresses: Sequence[str]) -> list[Example]:
    """`count` sentences. places: names of divisions. addresses: real ones to draw from, or none."""
    draw = _Drawn(seed, places, addresses)
    marked: dict[str, tuple[str, Callable[[], str]]] = {
        "n": ("name", draw.person), "o": ("organisation", draw.organisation), "a": ("address", draw.address), "c": ("address", lambda: draw.one(_CITIES) + draw.one(("", "", "市"))),
    }  # fmt: skip
    plain: dict[str, Callable[[], str]] = {
        "k": lambda: draw.one(_KIN), "r": lambda: draw.one(_ROLES), "t": lambda: draw.one(_TITLES), "s": lambda: draw.one(_BIRTH), "d": draw.figures,
        "f": draw.family, "g1": lambda: draw.one(GIVEN), "y": lambda: str(int(draw.random.integers(1, 99))),
    }  # fmt: skip
    made = []
    for i in range(count):
        pattern = _PATTERNS[i % len(_PATTERNS)]
        if draw.chance(0.3):  # two sentences in one message
            pattern += draw.one(("，", " ", "。", "，另外", "，")) + draw.one(_PATTERNS)
        if draw.chance(0.2):
            pattern = re.sub("[，：]", draw.one(("", " ", ",")), pattern)
        pattern = (
            draw.one(("", "", "", "", "你好，", "那个", "喂，", "请问", "麻烦问下 "))
            + pattern
            + draw.one(("", "", "", "。", "？", "吧", "，谢谢", "呢", "啊"))
        )
        text, marks = "", []
        for piece in re.split(r"(\{\w+\})", pattern):
            key = piece[1:-1] if piece.startswith("{") else ""
            if key in marked:
                kind, maker = marked[key]
                value = maker()
                marks.append((kind, len(text), len(text) + len(value)))
                text += value
            else:
                text += plain[key]() if key else piece
        made.append((text, marks))
    return made


def renamed(rows: Sequence[Example], seed: int) -> list[Example]:
    """Those of the rows in which Chinese persons stand, with drawn names in place of theirs."""
    draw = _Drawn(seed, (), ())
    made = []
    for text, marks in rows:
        shift, marked, swapped = 0, [], False
        if any(a[2] > b[1] for a, b in zip(marks, marks[1:], strict=False)):
            continue
        for kind, start, end in marks:
            start, end = start + shift, end + shift
            if kind == "name" and re.fullmatch(f"[{FAMILY_NAMES}][\u4e00-\u9fa5]{{1,2}}", text[start:end]):
                name = draw.person()
                text = text[:start] + name + text[end:]
                shift, end, swapped = shift + len(name) - (end - start), start + len(name), True
            marked.append((kind, start, end))
        if swapped:
            made.append((text, marked))
    return made
