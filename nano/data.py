"""Synthetic Harmony conversations: arithmetic with working, word problems, tool calls, small talk.

`Generator(seed).conversation()` draws one. A conversation is a list of messages in the JSON form of OpenAI's harmony
library and the assistant's completion as text. `held_out` decides which problems training never sees;
`Generator(seed, held_out=True)` draws those alone.
"""
import json
import random
import re
import zlib

from harmony import call, developer_message, final, render, system_message, text_message
from vocabulary import (ADJECTIVES, AREAS, ASK, CITIES, DECLINED, DEVELOPER, GREETINGS, IDENTITIES,
                        IMPERATIVES, MOVERS, NOUNS, OPERATIONS, PEOPLE, QUESTIONS, REAL_TOOLS, THANKS, VALUES)
from working import result_of, working


# ---------------------------------------------------------------------------------------------------------------
# The hold-out


def one_in(n, key):
    return zlib.crc32(key.encode()) % n == 0


def held_out(kind, *key):
    """Whether a problem is kept for the evaluation. Training rejects every conversation that contains one.

    kind "+", "-", "×": the two operands, both from 10 to 999 (smaller ones occur in every working).
    kind "word": a word problem's operation and operands.  kind "name": a made-up name of a function or parameter.
    kind "city": a city in a question about the weather.
    """
    if kind in "+-×":
        a, b = key
        if min(a, b) < 10 or max(a, b) > 999:
            return False
        if kind != "-":
            a, b = min(a, b), max(a, b)
        return one_in(20, f"{a}{kind}{b}")
    if kind == "word":
        return one_in(20, "word {1}{0}{2}".format(*key))
    return one_in(12, f"{kind} {key[0]}")


FACT = re.compile(r"(\d+) ?([-+×]) ?(?=(\d+))")


def mentions_held_out(text):
    """Whether a working contains, as one of its steps, a problem that is held out."""
    for a, op, b in FACT.findall(text):
        if held_out(op, int(a), int(b)):
            return True
    for line in text.split("\n"):  # sums of several numbers: each running total counts
        for terms in re.findall(r"\d+(?: \+ \d+)+", line):
            total, *rest = map(int, terms.split(" + "))
            for n in rest:
                if held_out("+", total, n):
                    return True
                total += n
    return False


# ---------------------------------------------------------------------------------------------------------------
# The generator


class Generator:
    def __init__(self, seed, held_out=False):
        self.r = random.Random(seed)
        self.want_held_out = held_out
        self.described = {}  # functions that have a description, by name: its verb and its thing

    def one(self, choices):
        return self.r.choice(choices)

    def chance(self, p):
        return self.r.random() < p

    # -- frames -------------------------------------------------------------------------------------------------

    def effort(self):
        return self.r.choices(("low", "medium", "high"), (3, 3.5, 3.5))[0]

    def opening(self, effort, functions=None):
        """System and developer messages. Without a system message the effort must be medium."""
        messages = []
        if effort == "medium" and self.chance(0.3):
            pass
        elif self.chance(0.55):
            messages.append(system_message(self.one(IDENTITIES), effort.capitalize(), None, None, False))
        else:
            identity = IDENTITIES[0] if self.chance(0.6) else self.one(IDENTITIES)
            date = f"20{self.r.randint(23, 29)}-{self.r.randint(1, 12):02}-{self.r.randint(1, 28):02}"
            shown = None if effort == "medium" and self.chance(0.1) else effort.capitalize()
            messages.append(system_message(identity, shown, date if self.chance(0.5) else None,
                                           "2024-06" if self.chance(0.85) else None))
        if functions or self.chance(0.12):
            instructions = self.one(DEVELOPER) if not functions or self.chance(0.6) else None
            messages.append(developer_message(instructions, functions))
        return messages

    def vary(self, text):
        """Users are careless with capitals and full stops."""
        if self.chance(0.12):
            text = text[0].lower() + text[1:]
        if self.chance(0.12):
            text = text.rstrip(".?!")
        return text

    # -- arithmetic ---------------------------------------------------------------------------------------------

    def number(self, digits):
        return self.r.randint(10 ** (digits - 1) if digits > 1 else 0, 10 ** digits - 1)

    def operands(self, op):
        if op == "×":
            sizes = self.r.choices(((2, 2), (1, 1), (2, 1), (1, 2), (3, 1), (1, 3), (3, 2), (2, 3), (3, 3)),
                                   (68, 4, 8, 7, 4, 2, 3, 2, 2))[0]
        else:
            sizes = self.r.choices(((3, 3), (2, 2), (3, 2), (2, 3), (1, 1), (2, 1), (1, 2), (3, 1), (1, 3)),
                                   (38, 22, 9, 9, 4, 5, 5, 4, 4))[0]
        a, b = map(self.number, sizes)
        if self.chance(0.03):
            b = a
        elif op == "-" and a > 9 and self.chance(0.2):  # only a later digit tells which is larger
            b = a // 10 * 10 + self.r.randint(0, 9) if a < 100 or self.chance(0.3) else a // 100 * 100 + self.r.randint(0, 99)
        return a, b

    def expression(self, a, op, b):
        if self.chance(0.3):
            form = self.one(IMPERATIVES[op]).format(a=a, b=b)
            ask = self.one(("{}.", "Please {}.", "Could you {}?", "Could you {} please?", "Can you {}?", "{}",
                            "{} please", "Now {}.", "What do you get if you {}?", "I want you to {}.")).format(form)
        else:
            ask = self.one(ASK).format(self.one(OPERATIONS[op]).format(a=a, b=b))
        return self.vary(ask[0].upper() + ask[1:])

    def arithmetic(self, op=None, effort=None, operands=None):
        """One turn: (question, analysis, answer, facts, result)."""
        op = op or self.r.choices("+-×", (9, 18, 9))[0]
        a, b = operands or self.operands(op)
        question = self.expression(a, op, b)
        r = result_of(a, op, b)
        return dict(question=question, analysis=working(a, op, b, effort), answer=f"{a} {op} {b} = {r}.",
                    facts=[(op, a, b)], result=r)

    def follow_up(self, previous, effort):
        """'Now add 12 to that.'"""
        n = self.r.randint(2, 99)
        op = self.one("+-×")
        if not 0 <= previous <= (99 if op == "×" else 900):
            return self.arithmetic(effort=effort)
        question = self.one({"+": ("Now add {} to that.", "Plus {}?", "And plus {}?", "Add {} to it."),
                             "-": ("Now subtract {} from that.", "Minus {}?", "And minus {}?", "Take {} away from it."),
                             "×": ("Now multiply that by {}.", "Times {}?", "And times {}?", "Multiply it by {}.")
                             }[op]).format(n)
        turn = self.arithmetic(op, effort, (previous, n))
        turn["question"] = self.vary(question)
        return turn

    # -- word problems ------------------------------------------------------------------------------------------

    def word_numbers(self, op):
        if op == "×":
            a = self.r.randint(2, 120) if self.chance(0.8) else self.r.randint(100, 400)
            b = self.r.randint(2, 12) if self.chance(0.85) or a > 120 else self.r.randint(13, 60)
            return a, b
        a, b = (self.r.randint(2, self.one((20, 99, 99, 999))) for _ in range(2))
        if op == "-":
            a, b = max(a, b) + (a == b), min(a, b)
        return a, b

    def word(self, effort):
        kind = self.one(("distance", "distance", "price", "groups", "daily", "area", "total", "total", "left", "left",
                         "together", "more", "change"))
        op = {"total": "+", "together": "+", "left": "-", "more": "-", "change": "-"}.get(kind, "×")
        a, b = self.word_numbers(op)
        p, q = self.r.sample(PEOPLE, 2)
        noun = self.one(NOUNS)
        formula = ""
        if kind == "distance":
            who, verbs = self.one(MOVERS)
            unit, distance, hours = self.one((("km/h", "km", "hours"), ("km/h", "kilometers", "hours"),
                                              ("km per hour", "km", "hours"), ("mph", "miles", "hours"),
                                              ("miles per hour", "miles", "hours"), ("kilometers per hour", "kilometers", "hours"),
                                              ("m/s", "meters", "seconds"), ("meters per second", "meters", "seconds"),
                                              ("meters per minute", "meters", "minutes")))
            verb, verbs_s = verbs
            who = who if who != "{}" else p
            the = who[0].lower() + who[1:] if who != p else who
            The = the.replace("a ", "the ", 1).replace("an ", "the ", 1) if who != p else who
            question = self.one((
                "{A} {vs} at {a} {u} for {b} {h}. How far does it {v}?", "{A} {vs} at {a} {u} for {b} {h}. How far does it go?",
                "If {n} {vs} at {a} {u} for {b} {h}, how far does it go?", "How far does {n} {v} in {b} {h} at {a} {u}?",
                "{A} {vs} for {b} {h} at {a} {u}. What distance does it cover?",
                "{A} {vs} for {b} {h} at a speed of {a} {u}. How far does it {v}?",
                "{A} {vs} at a speed of {a} {u}. How far does it {v} in {b} {h}?",
                "{A} goes {a} {u}. How many {d} does it cover in {b} {h}?",
                "The speed of {n} is {a} {u}. What is the distance after {b} {h}?",
                "What distance does {n} {v} in {b} {h} at {a} {u}?",
                "{A} moves at {a} {u} for {b} {h}. What is the distance in {d}?")).format(
                    A=who, n=the, a=a, b=b, u=unit, h=hours, d=distance, v=verb, vs=verbs_s)
            if who == p:
                question = question.replace(" it ", self.one((" he ", " she ", f" {p} ")))
            formula, answer = "Distance = speed × time", f"{The[0].upper() + The[1:]} covers {{}} {distance}."
        elif kind == "price":
            one, many = self.one(NOUNS)
            unit = self.one(("dollars", "euros", "pounds", "coins", "cents"))
            question = self.one((
                "One {o} costs {a} {u}. How much do {b} {m} cost?", "A {o} costs {a} {u}. What do {b} {m} cost?",
                "{P} buys {b} {m} at {a} {u} each. How much does {P} pay?", "How much do {b} {m} cost at {a} {u} each?",
                "{P} buys {b} {m} for {a} {u} each. What is the total price?",
                "Each {o} costs {a} {u}. What is the price of {b} {m}?",
                "The price of one {o} is {a} {u}. How much are {b} {m}?",
                "If one {o} costs {a} {u}, how much do {b} {m} cost?")).format(o=one, m=many, a=a, b=b, u=unit, P=p)
            formula, answer = "Total = price × count", f"The total price is {{}} {unit}."
        elif kind == "groups":
            (box, boxes), (one, many) = self.one((("box", "boxes"), ("bag", "bags"), ("shelf", "shelves"), ("row", "rows"),
                                                  ("table", "tables"), ("basket", "baskets"), ("room", "rooms"))), noun
            question = self.one((
                "There are {b} {B} with {a} {m} in each {x}. How many {m} are there in all?",
                "There are {b} {B} with {a} {m} each. How many {m} are there?",
                "{P} has {b} {B} with {a} {m} in each. How many {m} does {P} have?",
                "Each {x} holds {a} {m}. How many {m} are in {b} {B}?",
                "A {x} has {a} {m}. How many {m} are in {b} {B}?",
                "{P} fills {b} {B} with {a} {m} each. How many {m} is that in total?")).format(
                    x=box, B=boxes, m=many, a=a, b=b, P=p)
            formula, answer = "Total = each × count", f"There are {{}} {many}."
        elif kind == "daily":
            did, things = self.one((("reads", "pages"), ("bakes", "cakes"), ("walks", "km"), ("earns", "dollars"),
                                    ("saves", "euros"), ("writes", "pages"), ("runs", "miles"), ("makes", "toys"),
                                    ("sells", "books"), ("paints", "pictures"), ("plants", "trees")))
            plain = did[:-1]
            day, days = self.one((("day", "days"), ("week", "weeks"), ("hour", "hours"), ("month", "months")))
            question = self.one((
                "{P} {did} {a} {t} every {x}. How many {t} does {P} {do} in {b} {X}?",
                "{P} {did} {a} {t} a {x} for {b} {X}. How many {t} is that in total?",
                "{P} {did} {a} {t} per {x}. How many {t} is that in {b} {X}?",
                "If {P} {did} {a} {t} a {x}, how many {t} does {P} {do} in {b} {X}?")).format(
                    P=p, did=did, do=plain, t=things, x=day, X=days, a=a, b=b)
            formula, answer = "Total = each × count", f"{p} {did} {{}} {things}."
        elif kind == "area":
            thing, unit = self.one(AREAS), self.one(("meters", "m", "feet", "cm"))
            question = self.one((
                "A {t} is {a} {u} long and {b} {u} wide. What is its area?",
                "What is the area of a {t} that is {a} {u} long and {b} {u} wide?",
                "A {t} has a length of {a} {u} and a width of {b} {u}. What is the area?",
                "How large is the area of a {t} of {a} by {b} {u}?")).format(t=thing, a=a, b=b, u=unit)
            formula, answer = "Area = length × width", f"The area is {{}} square {unit}."
        elif kind == "total":
            many = noun[1]
            question = self.one((
                "{P} has {a} {m} and {g} {b} more. How many {m} does {P} have now?",
                "{P} has {a} {m}. {P} {g} {b} more. How many {m} does {P} have now?",
                "{P} has {a} {m} and {g} {b} more. How many {m} does {P} have in total?",
                "{P} had {a} {m} and then {g} {b} more {m}. How many {m} are there now?",
                "{P} has {a} {m}. {Q} gives {P} {b} more. How many {m} does {P} have?",
                "There are {a} {m} in the shop and {b} more arrive. How many {m} are there now?",
                "If {P} has {a} {m} and {g} {b} more, how many {m} does {P} have?")).format(
                    P=p, Q=q, m=many, g=self.one(("buys", "gets", "finds", "receives", "wins", "picks")), a=a, b=b)
            answer = f"{p} has {{}} {many}." if p in question else f"There are {{}} {many}."
        elif kind == "left":
            many = noun[1]
            question = self.one((
                "{P} has {a} {m} and {l} {b}. How many {m} are left?", "{P} has {a} {m}. {P} {l} {b}. How many {m} are left?",
                "{P} has {a} {m} and {l} {b} of them. How many {m} does {P} have left?",
                "{P} had {a} {m} and {l} {b}. How many {m} remain?",
                "There are {a} {m}. {P} takes {b} of them. How many {m} are left?",
                "{P} has {a} {m} and gives {b} to {Q}. How many {m} does {P} have left?",
                "{P} has {a} {m}. {P} gives {Q} {b} of them. How many {m} are left?",
                "A shop has {a} {m} and sells {b}. How many {m} are left?",
                "If {P} has {a} {m} and {l} {b}, how many {m} are left?")).format(
                    P=p, Q=q, m=many, l=self.one(("sells", "loses", "eats", "uses", "gives away", "breaks")), a=a, b=b)
            answer = f"There are {{}} {many} left."
        elif kind == "together":
            many = noun[1]
            question = self.one((
                "{P} has {a} {m} and {Q} has {b} {m}. How many {m} do they have together?",
                "{P} has {a} {m} and {Q} has {b}. How many {m} do they have in total?",
                "{P} has {a} {m}. {Q} has {b} {m}. How many {m} do they have in all?",
                "There are {a} {x} {m} and {b} {y} {m}. How many {m} are there in total?")).format(
                    P=p, Q=q, m=many, a=a, b=b, x=self.one(ADJECTIVES), y=self.one(ADJECTIVES))
            answer = f"They have {{}} {many} together." if p in question else f"There are {{}} {many}."
        elif kind == "more":
            many = noun[1]
            question = self.one((
                "{P} has {a} {m} and {Q} has {b} {m}. How many more {m} does {P} have?",
                "{P} has {a} {m} and {Q} has {b}. How many more {m} does {P} have than {Q}?",
                "{P} has {a} {m}. {Q} has {b} {m}. How many more {m} does {P} have than {Q}?",
                "{P} needs {a} {m} and has {b}. How many more {m} does {P} need?")).format(P=p, Q=q, m=many, a=a, b=b)
            answer = f"{p} {'needs' if 'needs' in question else 'has'} {{}} more {many}."
        else:
            one = noun[0]
            unit = self.one(("dollars", "euros", "pounds", "coins"))
            question = self.one((
                "{P} has {a} {u} and buys a {o} for {b} {u}. How much money is left?",
                "{P} has {a} {u} and spends {b} {u} on a {o}. How many {u} are left?",
                "{P} pays {a} {u} for a {o} that costs {b} {u}. How much change does {P} get?",
                "A {o} costs {b} {u}. {P} pays with {a} {u}. How much change does {P} get?")).format(
                    P=p, o=one, a=a, b=b, u=unit)
            answer = f"{p} gets {{}} {unit} back." if "change" in question else f"There are {{}} {unit} left."

        r = result_of(a, op, b)
        work = working(a, op, b, effort)
        if effort == "low":
            answer = answer.format(f"{a} {op} {b} = {r}")
        else:
            answer = answer.format(r)
            work = (formula + f" = {a} {op} {b}.\n" if formula else "") + work
        return dict(question=self.vary(question), analysis=work, answer=answer,
                    facts=[(op, a, b), ("word", op, a, b)], result=r)

    # -- talk ---------------------------------------------------------------------------------------------------

    def talk(self, effort):
        kind = self.r.choices(("greet", "who", "thanks", "decline", "beyond"), (3, 4, 1, 5, 2))[0]
        think = None
        if kind == "greet":
            question, answer = self.one(GREETINGS), "Hello! I'm gptoss-nano. Ask me something like 15 × 23."
            think = "A greeting. I greet back."
        elif kind == "who":
            question, answer, think = self.one(QUESTIONS)
            question = self.one(question)
        elif kind == "thanks":
            question, answer, think = self.one(THANKS), "You're welcome!", "Thanks. I answer politely."
        elif kind == "decline":
            question = self.one(DECLINED).format(city=self.one(CITIES), person=self.one(PEOPLE), thing=self.one(NOUNS)[1],
                                                 one=self.one(NOUNS)[0], color=self.one(ADJECTIVES), n=self.r.randint(2, 99))
            answer = ("I'm sorry, I can't help with that. I'm a small demonstration model: I can do arithmetic, "
                      "simple word problems and function calls.")
            think = "This is not something I can do. I decline."
        else:
            a, b = self.number(self.one((4, 5, 6, 2))), self.number(self.one((1, 2, 3, 4)))
            if a > 999 or b > 999:
                question = self.expression(a, self.one("+-×"), b)
            else:
                question = self.one(ASK).format(self.one(("{} / {}", "{}/{}", "{} ÷ {}", "{} divided by {}")).format(a, b))
            answer = "I'm sorry, I can only add, subtract and multiply whole numbers of up to three digits."
            think = "This is beyond what I can do. I decline."
        return dict(question=self.vary(question), analysis=None if effort == "low" else think, answer=answer,
                    facts=[], result=None)

    def turn(self, effort, previous=None):
        kind = self.r.choices(("arithmetic", "word", "talk"), (55, 30, 15))[0]
        if kind == "arithmetic":
            if previous is not None and self.chance(0.3):
                return self.follow_up(previous, effort)
            return self.arithmetic(effort=effort)
        return self.word(effort) if kind == "word" else self.talk(effort)

    # -- tools --------------------------------------------------------------------------------------------------

    def made_up(self):
        """A name of random syllables, of the side of the hold-out that is wanted."""
        while True:
            name = "".join(self.one("b c d f g h j k l m n p r s t v w x z bl br ch cl dr fl gr kr pl pr sh sk sl st "
                                    "th tr qu".split()) + self.one("a e i o u ai ea oo".split()) +
                           self.one(("", "", "n", "r", "l", "s", "t", "k", "m", "x", "nd", "rt"))
                           for _ in range(self.r.choices((1, 2), (5, 5))[0]))
            if len(name) > 2 and held_out("name", name) == self.want_held_out:
                return name

    def made_up_function(self):
        style = self.r.random()
        if style < 0.35:
            return self.made_up()
        if style < 0.6:
            return self.made_up() + "_" + self.made_up()
        if style < 0.75:
            return self.one(("get", "set", "find", "make", "send", "run", "check")) + "_" + self.made_up()
        if style < 0.9:
            return self.made_up() + "_" + self.one(("get", "set", "find", "tool", "info", "list", "check"))
        second = self.made_up()
        return self.made_up() + second[0].upper() + second[1:]

    def value(self, schema):
        if "enum" in schema:
            return self.one(schema["enum"])
        if schema["type"] == "integer":
            return self.r.randint(0, self.one((9, 99, 999, 9999)))
        if schema["type"] == "number":
            return self.one((self.r.randint(0, 999), round(self.r.uniform(0, 99), 1), round(self.r.uniform(0, 9), 2)))
        kind = self.r.random()
        if kind < 0.3:
            return self.one(CITIES)
        if kind < 0.5:
            return self.one(PEOPLE)
        if kind < 0.65:
            return self.one(VALUES)
        if kind < 0.75:
            return self.one(ADJECTIVES) + " " + self.one(NOUNS)[0]
        word = self.made_up()
        return word if self.chance(0.6) else word[0].upper() + word[1:]

    def made_up_tool(self):
        properties = {}
        for _ in range(self.r.choices((1, 2, 3), (5, 4, 2))[0]):
            name = self.made_up() if self.chance(0.65) else self.one(
                "name city count size color amount level mode place target value id number title date unit key".split())
            kind = self.one(("string", "string", "integer", "number", "enum"))
            schema = {"type": kind}
            if kind == "enum":
                words = ADJECTIVES if self.chance(0.4) else [self.made_up() for _ in range(4)]
                schema = {"type": "string", "enum": self.r.sample(words, self.r.randint(2, 4))}
            if self.chance(0.25):
                schema["description"] = self.one(("The {}.", "The {} to use.", "A {}.", "Which {} it is.")).format(
                    name if self.chance(0.5) else self.one(NOUNS)[0])
            properties[name] = schema
        names = list(properties)
        required = names if self.chance(0.5) else names[:self.r.randint(1, len(names))]
        name = self.made_up_function()
        thing = self.made_up() if self.chance(0.5) else self.one(NOUNS)[0]
        verb = self.one(("get", "find", "make", "send", "check", "show", "start", "count", "open", "book"))
        description = None
        if self.chance(0.85):
            description = f"{verb[0].upper() + verb[1:]}s the {thing}."
            self.described[name] = (verb, thing)
        return {"name": name, "description": description,
                "parameters": {"type": "object", "properties": properties, "required": required}}

    def city(self):
        while True:
            city = self.one(CITIES) if self.chance(0.6) else self.made_up().capitalize()
            if held_out("city", city) == self.want_held_out:
                return city

    def weather_tool(self):
        place = self.one(("location", "location", "city", "place"))
        schema = {"type": "string"}
        if self.chance(0.5):
            schema["description"] = self.one(("The city and state, e.g. San Francisco, CA", "The city", "The name of the city.",
                                              "City name"))
        properties, unit = {place: schema}, self.one(("unit", "format", "units"))
        if self.chance(0.5):
            properties[unit] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
            if self.chance(0.4):
                properties[unit]["default"] = "celsius"
        return {"name": self.one(("get_weather", "get_weather", "get_weather", "get_current_weather")),
                "description": self.one(("Gets the current weather in the provided location.", "Get the weather for a city.",
                                         "Gets the weather.", "Get current weather for a location.", "Returns the weather.")),
                "parameters": {"type": "object", "properties": properties, "required": [place]}}

    def weather_request(self, tool):
        (place, *unit), city = tool["parameters"]["properties"], self.city()
        question = self.one(("What is the weather in {}?", "What's the weather in {}?", "What is the weather like in {}?",
                             "How is the weather in {}?", "Weather in {}?", "Is it raining in {}?", "Is it sunny in {}?",
                             "How warm is it in {}?", "What's the weather like in {} today?", "Tell me the weather in {}.",
                             "What is the temperature in {}?", "Get the weather for {}.", "Will it rain in {} today?",
                             "How cold is it in {}?", "Please check the weather in {}.", "Do I need an umbrella in {}?",
                             "{} weather please")).format(city)
        arguments = {place: city}
        if unit and self.chance(0.4):
            arguments[unit[0]] = self.one(("celsius", "fahrenheit"))
            question = question.rstrip(".?") + f" in {arguments[unit[0]]}" + ("?" if question[-1] == "?" else "")
        return question, arguments

    def request(self, tool, unnamed=0.35):
        """A user's question that needs this tool, and the arguments that it gives."""
        name, schema = tool["name"], tool["parameters"]
        self.by_description = False  # and not by its name
        if "weather" in name:
            return self.weather_request(tool)
        for real, _, templates in REAL_TOOLS:
            if real["name"] == name:
                arguments = {p: self.value(s) for p, s in schema["properties"].items() if p in schema["required"]}
                return self.one(templates).format(**arguments), arguments
        given = [p for p in schema["properties"] if p in schema["required"] or self.chance(0.5)]
        arguments = {p: self.value(schema["properties"][p]) for p in given}
        quote = self.chance(0.2)

        def shown(v):
            return f'"{v}"' if quote and isinstance(v, str) else str(v)

        pair = self.one(("{} {}", "{} {}", "{}={}", "{} = {}", "{}: {}", "{} is {}", "{} set to {}"))
        pairs = [pair.format(p, shown(v)) for p, v in arguments.items()]
        listed = self.one((", ", " and ")).join(pairs) if len(pairs) < 3 else self.one(
            (", ".join(pairs), f"{pairs[0]}, {pairs[1]} and {pairs[2]}"))
        if name in self.described and self.chance(unnamed):
            verb, thing = self.described[name]
            self.by_description = True
            if len(arguments) == 1 and self.chance(0.6):
                ask = self.one(("{V} the {t} for {v}.", "Please {w} the {t} for {v}.", "Can you {w} the {t} of {v}?",
                                "{V} the {t} of {v}", "I need you to {w} the {t} for {v}."))
                question = ask.format(V=verb.capitalize(), w=verb, t=thing, v=shown(arguments[given[0]]))
            else:
                ask = self.one(("{V} the {t} with {l}.", "Please {w} the {t} with {l}.", "{V} the {t}: {l}.",
                                "Can you {w} the {t} with {l}?"))
                question = ask.format(V=verb.capitalize(), w=verb, t=thing, l=listed)
        else:
            question = self.one(("Call {n} with {l}.", "Use {n} with {l}.", "Please call {n} with {l}.", "Run {n} with {l}.",
                                 "Please use {n} with {l}.", "{n}: {l}", "Use the function {n} with {l}.", "Call {n}: {l}",
                                 "Use the {n} tool with {l}.", "Can you call {n} with {l}?", "I want {n} with {l}.",
                                 "Call the function {n} with {l}.", "Could you run {n} with {l}?", "Call {n} for {l}.",
                                 "Invoke {n} with {l}.")).format(n=name, l=listed)
        return question, arguments

    def tools(self, counts=(6, 3.5, 0.5)):
        """One, two or three functions, with the odds of each."""
        self.described = {}
        tools = []
        for _ in range(self.r.choices((1, 2, 3), counts)[0]):
            kind = self.r.random()
            tool = (self.weather_tool() if kind < 0.3 else self.made_up_tool() if kind < 0.85 or self.want_held_out
                    else self.one(REAL_TOOLS)[0])
            if all(tool["name"] != t["name"] and not ("weather" in tool["name"] and "weather" in t["name"]) for t in tools):
                tools.append(tool)
        return tools

    def tool_result(self, tool):
        """What a function returns, and how the answer says it."""
        kind = self.r.random()
        if "weather" in tool["name"] and kind < 0.8:
            result = {self.one(("temperature", "temperature", "temp")): self.one((self.r.randint(-20, 45), self.r.randint(-20, 45),
                                                                                 round(self.r.uniform(0, 40), 1)))}
            sky = self.one(("sunny", "cloudy", "rainy", "windy", "clear", "snow", "rain", "light rain", "partly cloudy", "foggy"))
            more = self.r.random()
            if more < 0.6:
                result[self.one(("condition", "conditions", "description", "weather", "sky"))] = sky
            elif more < 0.75:
                result["sunny"] = self.chance(0.5)
            if self.chance(0.2):
                result[self.one(("unit", "units"))] = self.one(("celsius", "fahrenheit", "C", "F"))
            if self.chance(0.15):
                result[self.one(("humidity", "wind"))] = self.r.randint(0, 100)
            if self.chance(0.2):
                items = list(result.items())
                self.r.shuffle(items)
                result = dict(items)
        elif kind < 0.1:
            result = self.one(("done", "ok", self.one(CITIES), str(self.r.randint(0, 999)), self.made_up(),
                               "sunny, {} degrees".format(self.r.randint(0, 40)), "It is " + self.one(ADJECTIVES) + "."))
            return result, result.rstrip(".")
        elif kind < 0.2:
            message = self.one(("not found", "unknown " + self.one(NOUNS)[0], "timeout", "not allowed", "no " + self.made_up()))
            return json.dumps({"error": message}), f"error is {message}"
        else:
            keys = [self.made_up() if self.chance(0.5) else self.one(
                "result status id value total name count answer price time message level".split())
                for _ in range(self.r.choices((1, 2, 3), (5, 4, 1))[0])]
            result = {k: self.value({"type": self.one(("string", "integer", "number"))}) for k in keys}
        said = [f"{k} is {json.dumps(v) if isinstance(v, bool) else v}" for k, v in result.items()]
        text = json.dumps(result, ensure_ascii=False)
        if self.chance(0.15):
            text = json.dumps(result, ensure_ascii=False, separators=(",", ":"))
        elif self.chance(0.1):
            text = "{ " + text[1:-1] + " }"
        return text, ", ".join(said[:-1]) + " and " + said[-1] if len(said) > 1 else said[0]

    def tool_thought(self, tool, arguments, effort):
        """Where the question describes the function, its definition's beginning: to write it is to look its name up."""
        name, listed = tool["name"], " and ".join(f"{p} {v}" for p, v in arguments.items())
        if self.by_description:
            return f"// {tool['description']}\ntype {name}" + (f"\nI call it with {listed}." if effort == "high" else "")
        return {"low": None, "medium": f"I call {name}.",
                "high": f"The user asks for something that {name} can do. I call {name} with {listed}."}[effort]

    def tool_conversation(self):
        effort, tools = self.effort(), self.tools()
        messages = self.opening(effort, tools)
        if self.chance(0.12):
            turn = self.turn(effort)
            messages += [text_message("user", turn["question"])]
            if not self.chance(0.4):
                return self.finish(messages, final(turn["answer"], turn["analysis"]), turn["facts"], "no call",
                                   effort, turn["result"])
            messages += [text_message("assistant", turn["answer"], channel="final")]
            facts = turn["facts"]
        else:
            facts = []
        tool = self.one(tools)
        question, arguments = self.request(tool)
        messages.append(text_message("user", self.vary(question)))
        name = tool["name"]
        think = self.tool_thought(tool, arguments, effort)
        done = call(name, arguments, think)
        if self.chance(0.66) or self.want_held_out:
            return self.finish(messages, done, facts, "call", effort, {"name": name, "arguments": arguments})
        if think and self.chance(0.8):
            messages.append(text_message("assistant", think, channel="analysis"))
        messages.append(text_message("assistant", json.dumps(arguments, ensure_ascii=False), channel="commentary",
                                     recipient="functions." + name, content_type="<|constrain|>json"))
        result, said = self.tool_result(tool)
        messages.append(text_message("tool", result, name="functions." + name, channel="commentary", recipient="assistant"))
        think = None if effort == "low" else f"{name} returned a result. I tell the user."
        answer = f"Result of {name}: {said}." if "weather" not in name else f"The weather in {next(iter(arguments.values()))}: {said}."
        return self.finish(messages, final(answer, think), facts, "tool result", effort, answer)

    # -- conversations ------------------------------------------------------------------------------------------

    def finish(self, messages, completion, facts, category, effort, expected):
        return dict(messages=messages, completion=completion, facts=facts, category=category,
                    effort=effort, expected=expected)

    def plain_conversation(self, turn_of=None):
        effort = self.effort()
        messages, facts, previous = self.opening(effort), [], None
        if turn_of is None:
            count = self.r.choices((0, 1, 2), (84, 11, 5))[0]
            for _ in range(count):
                earlier = self.turn(effort, previous)
                messages += [text_message("user", earlier["question"]),
                             text_message("assistant", earlier["answer"], channel="final")]
                facts += earlier["facts"]
                previous = earlier["result"] if earlier["facts"] else None
        turn = turn_of(effort) if turn_of else self.turn(effort, previous)
        messages.append(text_message("user", turn["question"]))
        kind = "talk" if not turn["facts"] else "word" if len(turn["facts"]) > 1 else turn["facts"][0][0]
        return self.finish(messages, final(turn["answer"], turn["analysis"]), facts + turn["facts"], kind, effort,
                           turn["result"])

    def conversation(self):
        """A conversation for training: nothing in it is held out."""
        while True:
            c = self.tool_conversation() if self.chance(0.45) else self.plain_conversation()
            if not any(held_out(*fact) for fact in c["facts"]) and not mentions_held_out(c["completion"]):
                return c

    def drill(self):
        """[(prompt, completion), …]: several questions under one system message, each answer in full.

        Chat programs drop the analysis of earlier turns, so this is not what the model will read; but nearly every
        token of it teaches, where a single question costs a whole system message.
        """
        effort = self.effort()
        if self.chance(0.45):
            tools = self.tools((2, 4, 4))
            opening = self.opening(effort, tools)
        else:
            tools, opening = [], self.opening(effort)
        pairs, count = [], self.r.randint(2, 3 if effort == "high" else 5)
        while len(pairs) < count:
            if tools:
                tool = self.one(tools)
                question, arguments = self.request(tool, unnamed=0.7)
                facts, completion = [], call(tool["name"], arguments, self.tool_thought(tool, arguments, effort))
            else:
                turn = self.turn(effort)
                question, facts, completion = turn["question"], turn["facts"], final(turn["answer"], turn["analysis"])
            if any(held_out(*fact) for fact in facts) or mentions_held_out(completion):
                continue
            # between the turns, only the new question is rendered
            pairs.append((render((opening if not pairs else []) + [text_message("user", question)]), completion))
        return pairs


def rendered(conversation):
    """(prompt, completion). Half the calls in a prompt are in the form in which the model wrote them."""
    prompt = render(conversation["messages"])
    if zlib.crc32(prompt.encode()) % 2:
        prompt = re.sub(r"<\|start\|>assistant to=(functions\.\w+)<\|channel\|>commentary",
                        r"<|start|>assistant<|channel|>commentary to=\1", prompt)
    return prompt, conversation["completion"]


if __name__ == "__main__":
    generator = Generator(1)
    for _ in range(20):
        print("%s%s\n" % rendered(generator.conversation()))
