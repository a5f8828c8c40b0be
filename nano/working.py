"""How gptoss-nano computes, as text: every result follows from the digits before it."""

# `high` says every step; `medium` and `low` are short.


def columns(a, b):
    """Digits of a and b from the right, padded with zeros."""
    n = max(len(str(a)), len(str(b)))
    return list(zip(reversed(f"{a:0{n}}"), reversed(f"{b:0{n}}")))


def add_steps(a, b):
    """['2+9=11', '5+8+1=14', …]: the columns from the right, each with the carry of the one before."""
    steps, carry = [], 0
    for x, y in columns(a, b):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}" + (f"+{carry}" if carry else "") + f"={total}")
        carry = total // 10
    return steps


def subtract_steps(a, b):
    """For a >= b: ['12-9=3', '15-8-1=6', …]: ten is borrowed where it is needed."""
    steps, borrow = [], 0
    for x, y in columns(a, b):
        top, low = int(x), int(y) + borrow
        lend = 10 if top < low else 0
        steps.append(f"{top + lend}-{y}" + ("-1" if borrow else "") + f"={top + lend - low}")
        borrow = 1 if lend else 0
    return steps


def comparison(a, b):
    """'1=1, 2<3': the digits from the left, up to the first that differ."""
    told = []
    for x, y in reversed(columns(a, b)):
        told.append(x + ("=" if x == y else "<" if x < y else ">") + y)
        if x != y:
            break
    return ", ".join(told)


def digit_times(a, d):
    """'7×6=42, 4×6+4=28': the digits of a from the right, each with the carry of the one before."""
    steps, carry = [], 0
    for x in reversed(str(a)):
        total = int(x) * d + carry
        steps.append(f"{x}×{d}" + (f"+{carry}" if carry else "") + f"={total}")
        carry = total // 10
    return ", ".join(steps)


def by_place(steps):
    return " ".join(f"{place}: {step}." for place, step in zip(("Ones", "Tens", "Hundreds", "Thousands"), steps))


def work_add(a, b, effort):
    steps = add_steps(a, b)
    if effort == "high":
        return f"{a} + {b}.\n{by_place(steps)}\nSo {a} + {b} = {a + b}."
    return f"{a} + {b}: {', '.join(steps)}, so {a + b}."


def work_subtract(a, b, effort):
    if a < b:
        steps, r = subtract_steps(b, a), b - a
        if effort == "high":
            return (f"{a} - {b}. {comparison(a, b)}, so {a} - {b} = -({b} - {a}).\n{by_place(steps)}\n"
                    f"So {b} - {a} = {r} and {a} - {b} = -{r}.")
        return f"{a} - {b}: {comparison(a, b)}. {b} - {a}: {', '.join(steps)}, so {r}, and {a} - {b} = -{r}."
    steps = subtract_steps(a, b)
    if effort == "high":
        return f"{a} - {b}. {comparison(a, b)}.\n{by_place(steps)}\nSo {a} - {b} = {a - b}."
    return f"{a} - {b}: {comparison(a, b)}. {', '.join(steps)}, so {a - b}."


def partial_products(a, b):
    """The parts of b, as in 86 = 80 + 6, without zeros: [80, 6]."""
    return [int(d) * 10 ** i for i, d in reversed(list(enumerate(reversed(str(b))))) if d != "0"] or [0]


def work_multiply(a, b, effort):
    turned = f"{a} × {b} = {b} × {a}. " if len(str(a)) < len(str(b)) else ""
    if turned:
        a, b = b, a
    if b < 10:
        if a < 10:
            return turned + f"{a} × {b} = {a * b}."
        return turned + f"{a}×{b}: {digit_times(a, b)}, so {a * b}."
    parts = partial_products(a, b)
    lines = []
    for p in reversed(parts):
        d = int(str(p)[0])
        line = f"{a}×{d}: {digit_times(a, d)}, so {a * d}"
        if p > 9:
            line += f", and {a}×{p}={a * p}"
        lines.append(line + ".")
    total, *rest = [a * p for p in reversed(parts)]
    for q in rest:
        lines.append(f"{total}+{q}: {', '.join(add_steps(total, q))}, so {total + q}.")
        total += q
    if effort == "high":
        lines.insert(0, f"{a} × {b}" + (" = " + " + ".join(f"{a} × {p}" for p in parts) if len(parts) > 1 else "") + ".")
        lines.append(f"So {a} × {b} = {a * b}.")
    return turned + "\n".join(lines)


def result_of(a, op, b):
    return {"+": a + b, "-": a - b, "×": a * b}[op]


def working(a, op, b, effort):
    """The analysis for an effort; None where low effort needs none."""
    if effort == "low" and max(a, b) < 10:
        return None
    return {"+": work_add, "-": work_subtract, "×": work_multiply}[op](a, b, effort)
