import pytest

from monitor.judging.other_forms import OtherForms
from monitor.judging.quantities import Quantities
from monitor.judging.support import Support, is_content
from monitor.judging.text import stems, words


def held(answer, *documents):
    """The missing content words of the answer that the documents hold in another form."""
    vocabulary = {stem for document in documents for stem in stems(document)}
    missing = [word for word in words(answer) if word.stem not in vocabulary and is_content(word)]
    found = OtherForms(documents, vocabulary).find(answer, missing)
    return {word.text for word in missing if word.start in found}


@pytest.mark.parametrize(
    ("answer", "document", "expected"),
    [
        ("American", "A town in America", {"American"}),
        ("develop", "the development", {"develop"}),
        ("Austria", "A town in Australia", set()),
        ("cat", "the category", set()),
        ("1.5 million", "1,500,000 people", {"1.5", "million"}),
        ("1,500,000", "1.5 million people", {"1,500,000"}),
        ("1.5 million", "1,532,411 people", {"1.5", "million"}),
        ("1.6 million", "1,532,411 people", {"million"}),
        ("2 billion", "300 people", set()),
        ("50 percent", "50% of them", {"percent"}),
        ("12 dollars", "it costs $12", {"dollars"}),
        ("third", "in the 3rd year", {"third"}),
        ("3rd", "in the third year", {"3"}),
        ("fourth", "in the 3rd year", set()),
        ("October", "on 2004-10-02", {"October"}),
        ("August", "on 2004-10-02", set()),
        ("Oct", "in October", {"Oct"}),
        ("9 kilometers", "9 km away", {"kilometers"}),
        ("NFL", "The National Football League played", {"NFL"}),
        ("UN", "the United Nations", {"UN"}),
        ("UK", "the U.K. Navy", {"UK"}),
        ("NHL", "The National Football League played", set()),
        ("National Football League", "the NFL", {"National", "Football", "League"}),
        ("University of Cape Town", "at UCT", {"University", "Cape", "Town"}),
        ("Grace Hopper", "a gh", set()),
    ],
)
def test_another_form_of_the_same_is_found(answer, document, expected):
    assert held(answer, document) == expected


def test_a_name_is_not_abbreviated_across_sentences():
    assert held("NFL", "He is National. Football matters. League tables.") == set()


def test_support_tells_the_same_form_from_another():
    support = Support(["The American town has 1,500,000 people."], "America has 1.5 million in Peru.")
    by_text = {word.text: word for word in support.words}

    assert not support.has(by_text["America"])
    assert support.holds(by_text["America"])
    assert support.holds(by_text["1.5"])
    assert not support.holds(by_text["Peru"])


@pytest.mark.parametrize(
    ("value", "stated"), [("7", True), ("1.1 million", True), ("1.2 million", False), ("1.2.3", False), ("8", False)]
)
def test_quantities_are_found_by_value(value, stated):
    (number, *_) = words(value)

    assert Quantities(["version 1.2.3 of 007", "1,100,000 and no more"]).hold(value, number) is stated


def test_no_quantity_reaches_anything():
    assert not Quantities(["none"]).reach(1.0)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["A", "Ab ", "A. ", "1 ", "9", "1-", "2004-10-", "aaaa{} ", "AB{} ", "{} million "])
def test_a_megabyte_of_anything_is_looked_through_in_linear_time(unit):
    document = "".join(unit.format(number) for number in range(1_000_000 // max(4, len(unit))))
    answer = "".join(unit.format(f"{number}7") for number in range(100_000 // max(4, len(unit)))) + " Zebra XYZ 7.5 May"

    assert "Zebra" not in held(answer, document)
