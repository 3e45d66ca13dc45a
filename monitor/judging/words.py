"""Word lists for English: function words, words about sources, numerals, negations, abbreviations, months and units.

Other languages are judged without them: every word then counts as content, which blurs the evidence but
keeps it comparable between an answer and its documents.
"""

_STOP_WORDS = """
    a about above after again against all almost also although always am among an and another any anyone anything
    are aren as at b back be became because become been before being below between both but by c came can cannot
    could couldn d did didn do does doesn doing don done down during e each either else etc even ever every everyone
    everything f far few for from further g get gets getting go goes going gone got h had hadn has hasn have haven
    having he her here hers herself him himself his how however i if in indeed instead into is isn it its itself j
    just k know known l less let like likely ll m made make makes making many may maybe me might mine more most much
    must my myself n nd near nearly need neither never next no nobody non none nor not nothing now o of off often oh
    ok okay on once one only onto or other others otherwise our ours ourselves out over own p per perhaps possible q
    quite r rather re really s said same say says see seem seems seen several shall she should shouldn since so some
    someone something sometimes somewhat soon st still such t th than that the their theirs them themselves then
    there therefore these they thing things this those though through thus to together too toward towards u under
    unless until up upon us use used using usually v ve very via w was wasn way we well went were weren what whatever
    when where whereas whether which while who whoever whole whom whose why will with within without won would
    wouldn x y yeah yes yet you your yours yourself z
"""

STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words that carry grammar, not claims; single letters are what tokenising leaves of contractions."""

_SOURCE_WORDS = """
    according answer article based context described document excerpt given information mentioned passage provided
    question text
"""

SOURCE_WORDS = frozenset(_SOURCE_WORDS.split())
"""Words that speak of the documents or the question instead of what they say: "based on the passage provided"."""

_NEGATIONS = """
    aren cannot couldn didn doesn don hadn hasn haven isn neither never no nobody none nor not nothing shouldn
    wasn weren without won wouldn
"""

NEGATIONS = frozenset(_NEGATIONS.split())
"""Words that turn a claim around; contractions as tokenising leaves them."""

NUMBER_WORDS = {
    "zero": "0",
    "two": "2",
    "three": "3",
    "four": "4",
    "five": "5",
    "six": "6",
    "seven": "7",
    "eight": "8",
    "nine": "9",
    "ten": "10",
    "eleven": "11",
    "twelve": "12",
    "thirteen": "13",
    "fourteen": "14",
    "fifteen": "15",
    "sixteen": "16",
    "seventeen": "17",
    "eighteen": "18",
    "nineteen": "19",
    "twenty": "20",
    "thirty": "30",
    "forty": "40",
    "fifty": "50",
    "sixty": "60",
    "seventy": "70",
    "eighty": "80",
    "ninety": "90",
}
"""Numerals by their digits; `one` is left out, for it is mostly a pronoun."""

_ABBREVIATIONS = """
    al approx apr aug capt co col corp dec dept dr eg est etc feb fig gen hon ie inc jan jr jul jun lt ltd mar mr mrs
    ms nov oct prof rev sep sept sgt sr st univ vol vs
"""

ABBREVIATIONS = frozenset(_ABBREVIATIONS.split())
"""Words after which a full stop ends no sentence."""

_MONTHS = "january february march april may june july august september october november december"

MONTHS = {name: f"{number:02}" for number, name in enumerate(_MONTHS.split(), start=1)}
"""Months by their number in an ISO date."""

SAME_WORDS = (
    *((name, name[:3]) for name in MONTHS),
    ("september", "sept"),
    ("kilometre", "kilometer", "km"),
    ("metre", "meter"),
    ("centimetre", "centimeter", "cm"),
    ("millimetre", "millimeter", "mm"),
    ("mile", "mi"),
    ("kilogram", "kilo", "kg"),
    ("milligram", "mg"),
    ("hour", "hr"),
    ("minute", "min"),
    ("percent", "percentage", "pct"),
    ("dollar", "usd"),
    ("euro", "eur"),
    ("pound", "gbp", "lb"),
    ("television", "tv"),
)
"""Units and months in their spellings and abbreviations."""

UNIT_SYMBOLS = {"percent": "%", "percentage": "%", "cent": "%", "dollar": "$", "euro": "€", "pound": "£", "yen": "¥"}
"""Units by the sign that may stand in their place; `cent` is half of `per cent`."""
