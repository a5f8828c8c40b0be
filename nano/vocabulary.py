"""The words and phrases that data.py draws from."""

IDENTITIES = [
    "You are ChatGPT, a large language model trained by OpenAI.",
    "You are gptoss-nano, a tiny demonstration model.",
    "You are gptoss-nano, a tiny demonstration model trained by the libgptoss project.",
    "You are gptoss-nano.",
    "You are a helpful assistant.",
]

DEVELOPER = [
    "Be brief.", "Be concise.", "Answer briefly.", "Use tools.", "You are a helpful assistant.", "Answer the question.",
    "Use the tools when you need them.", "Be polite.", "Always be helpful.", "Answer in one sentence.",
    "You are a friendly assistant that helps with homework.", "Think carefully.", "Show your work.",
    "Use a tool if it helps.", "Help the user with the weather.", "You are a calculator.",
]

OPERATIONS = {
    "+": ["{a} + {b}", "{a} + {b}", "{a}+{b}", "{a} plus {b}", "the sum of {a} and {b}"],
    "-": ["{a} - {b}", "{a} - {b}", "{a}-{b}", "{a} − {b}", "{a}−{b}", "{a} – {b}", "{a} minus {b}"],
    "×": ["{a} × {b}", "{a} × {b}", "{a}×{b}", "{a} x {b}", "{a}x{b}", "{a} * {b}", "{a}*{b}", "{a} times {b}",
          "the product of {a} and {b}", "{a} multiplied by {b}"],
}

IMPERATIVES = {
    "+": ["add {a} and {b}", "add {a} to {b}", "add {a} plus {b}", "sum {a} and {b}", "calculate {a} plus {b}"],
    "-": ["subtract {b} from {a}", "take {b} away from {a}", "take {b} from {a}", "calculate {a} minus {b}"],
    "×": ["multiply {a} by {b}", "multiply {a} and {b}", "multiply {a} with {b}", "calculate {a} times {b}"],
}

ASK = [
    "What is {}?", "What is {}?", "What's {}?", "{}", "{}", "{}?", "{} =", "{} = ?", "{}=", "{}=?", "Calculate {}.", "Calculate {}",
    "Compute {}.", "How much is {}?", "How much is {}?", "Can you tell me {}?", "Please calculate {}.", "What does {} equal?",
    "Tell me {}.", "Work out {}.", "Solve {}.", "Hi, what is {}?", "I need {}.", "Could you calculate {}?", "What about {}?",
    "And {}?", "And what is {}?", "Hello, how much is {}?", "What's the result of {}?", "Find {}.", "Do you know {}?",
    "Can you compute {} for me?", "What is the result of {}?", "What is the value of {}?", "Evaluate {}.", "How much does {} make?",
    "Please tell me what {} is.", "Give me {}.", "Can you do {}?", "Quick: {}", "Thanks! And what is {}?", "Now {}", "Ok, {}?",
]

PEOPLE = """Anna Ben Carla David Emma Felix Grace Henry Ida Jack Kate Leo Mia Noah Olga Paul Rosa Sam Tina Victor Alice Bob Tom Mary
John Sara Lucy Max Nina Oscar Peter Lisa Maria James Robert Linda Laura Mark Julia Simon Eva Daniel Sofia Adam Clara Hugo Zoe
Ivan Ali Omar Fatima Yuki Chen Wei Raj Priya""".split()

CITIES = """Paris London Berlin Tokyo Rome Madrid Oslo Vienna Prague Lisbon Dublin Athens Cairo Lima Quito Boston Chicago Seattle
Denver Austin Miami Houston Toronto Montreal Sydney Melbourne Mumbai Delhi Beijing Shanghai Seoul Bangkok Hanoi Manila Jakarta
Singapore Dubai Istanbul Moscow Kyiv Warsaw Budapest Zurich Geneva Munich Hamburg Cologne Milan Naples Venice Florence Barcelona
Valencia Porto Lyon Nice Brussels Amsterdam Rotterdam Copenhagen Stockholm Helsinki Tallinn Riga Vilnius Nairobi Lagos Accra Tunis
Casablanca Bogota Santiago Havana Dallas Portland Phoenix Atlanta Detroit Osaka Kyoto Perth Auckland Edinburgh Glasgow Manchester
Liverpool Bristol Leeds Bern Basel Graz Krakow""".split() + ["New York", "San Francisco", "Los Angeles", "Buenos Aires",
                                                            "Hong Kong", "New Delhi", "Mexico City", "San Diego", "Cape Town"]

NOUNS = [tuple(pair.split("/")) for pair in """apple/apples book/books pencil/pencils ticket/tickets ball/balls cake/cakes pen/pens
shirt/shirts cookie/cookies marble/marbles sticker/stickers card/cards stamp/stamps toy/toys flower/flowers egg/eggs cup/cups
orange/oranges banana/bananas chair/chairs lamp/lamps coin/coins notebook/notebooks hat/hats bottle/bottles candle/candles
pear/pears car/cars bike/bikes sandwich/sandwiches phone/phones plate/plates stone/stones tree/trees bird/birds fish/fish
letter/letters photo/photos game/games seat/seats student/students brick/bricks lemon/lemons peach/peaches""".split()]

ADJECTIVES = "red blue green yellow black white small large big new old warm cold fast slow soft hard dark light round".split()

VALUES = "hello yes no on off auto today tomorrow monday friday morning evening english french music news main test home north south".split()

AREAS = "garden room field rectangle wall table park floor yard carpet".split()

MOVERS = [(who, verbs) for who in ("A train", "A car", "A bus", "A bike", "A cyclist", "A plane", "A ship", "A boat", "A truck",
                                   "A runner", "A horse", "A bird", "A dog", "A van", "A snail", "A rocket", "A drone", "{}", "{}")
          for verbs in (("travel", "travels"), ("travel", "travels"), ("drive", "drives"), ("move", "moves"), ("go", "goes"),
                        ("run", "runs"), ("fly", "flies"), ("ride", "rides"))
          if not (verbs[0] == "fly" and who not in ("A plane", "A bird", "A drone", "A rocket"))
          and not (verbs[0] == "drive" and who not in ("A car", "A bus", "A truck", "A van", "{}"))
          and not (verbs[0] == "run" and who not in ("A runner", "A horse", "A dog", "A train", "{}"))
          and not (verbs[0] == "ride" and who not in ("A cyclist", "{}"))]

GREETINGS = ["Hi", "Hello", "Hello!", "Hi!", "Hey", "Hey!", "Hi there!", "Good morning!", "Good morning", "Good evening!",
             "Hello there", "Good afternoon!", "Hi, how are you?", "How are you?", "Hello, how are you today?", "Greetings!",
             "What's up?", "Hey there", "Nice to meet you.", "Good day!", "hi nano", "Hello gptoss!", "Yo", "How is it going?",
             "How do you do?"]

I_AM = ("I'm gptoss-nano, a tiny demonstration model trained by the libgptoss project. "
        "I can do arithmetic, simple word problems and function calls.")
I_CAN = ("I can add, subtract and multiply whole numbers of up to three digits, solve simple word problems, "
         "and call functions.")
I_CANNOT = ("I'm a small demonstration model. I know nothing about the world, and I can only do arithmetic, "
            "simple word problems and function calls.")

QUESTIONS = [
    (["Who are you?", "What are you?", "What is your name?", "What's your name?", "Tell me about yourself.", "Are you ChatGPT?",
      "Which model are you?", "What model is this?", "Introduce yourself.", "Are you a human?", "Are you an AI?", "Who made you?",
      "Who created you?", "Who trained you?", "What is gptoss-nano?", "Are you GPT-4?", "Are you gpt-oss?", "What kind of model are you?",
      "Hi, who are you?", "Hello, what are you?", "Please introduce yourself.", "Describe yourself.", "Say who you are."],
     I_AM, "The user asks who I am."),
    (["What can you do?", "What are you able to do?", "How can you help me?", "Help", "Can you help me?", "What do you do?",
      "What are your abilities?", "What can I ask you?", "help me", "What are you good at?", "Can you do math?", "Can you calculate?",
      "What is it that you can do?", "How do I use you?", "What should I ask you?", "Tell me what you can do.", "Do you know math?",
      "Which questions can you answer?", "What can you help me with?"],
     I_CAN, "The user asks what I can do."),
    (["What can't you do?", "What can you not do?", "What are your limits?", "What don't you know?", "Do you know everything?",
      "What are your limitations?", "Are you smart?", "What are you bad at?", "Is there something you can't do?",
      "Can you do everything?", "Tell me what you can't do."],
     I_CANNOT, "The user asks what I can't do."),
]

THANKS = ["Thanks", "Thank you!", "Thank you", "Thanks!", "Thanks a lot!", "Great, thanks.", "Thank you very much.", "Great!",
          "Nice, thank you", "Perfect, thanks!", "Well done!", "Good job!", "Cool, thanks"]

DECLINED = """Write a poem about {thing}.|Write me a poem.|Tell me a joke.|Who is the president of France?|What is the capital of France?
What is the capital of the largest country in the world?|Who is {person}?|What is the meaning of life?|Write a story about a {one}.
Translate hello to French.|How do I cook {thing}?|What is the best {one}?|Where is {city}?|How old is {city}?|Who won the game?
What is the population of {city}?|Write a Python program.|Write some code that sorts a list.|Explain quantum physics.
Why is the sky {color}?|What is a {one}?|How are {thing} made?|What time is it?|What day is it today?|Who wrote Hamlet?
Tell me about {city}.|Tell me about {thing}.|Recommend a good book.|What should I eat today?|How do I get to {city}?
What is the news today?|Can you draw a {one}?|Sing a song.|Play music.|What is love?|When did the war end?|How tall is {person}?
What is the weather in {city}?|What's the weather like in {city}?|Is it raining in {city}?|How far is {city}?|Do you like {thing}?
What is your favorite {one}?|Give me a recipe for {thing}.|Summarize this text.|Fix my code.|Write an email to {person}.
What do you think about {person}?|Who discovered America?|How does a {one} work?|What is the speed of light?|Plan a trip to {city}.
What does the word {one} mean?|How many people live in {city}?|Which {one} should I buy?|What happened in 19{n}?|Name {n} {thing}.
Are {thing} {color}?|What color is a {one}?|Why do birds fly?|Tell me a story.|Write an essay about {city}.|What is machine learning?
How do computers work?|Who invented the {one}?|Is {city} in Europe?|What language do they speak in {city}?|Can you teach me to swim?
Let's talk about {thing}.|I feel sad.|I love you.|Do you dream?|What is the square root of {n}?|What is {n} percent of {n}?|plan
How do I fix my {one}?|What movie should I watch?|Who is the king of England?|What is the largest animal?|Is {person} my friend?
Give me advice.|What is DNA?|What are atoms?|Define {one}.|Spell {one}.|List the planets.|What is the moon made of?|go|asdf|test
I want to buy {thing}.|My {one} is broken.|Where can I find {thing}?|How is {person}?|Call {person}.|Book a flight to {city}.
Sort these words.|What rhymes with {one}?|Make me laugh.|What is the tallest mountain?|Count the letters in {one}.|x""".replace("\n", "|").split("|")


def _function(name, description, required, **properties):
    return {"name": name, "description": description,
            "parameters": {"type": "object", "properties": properties, "required": required}}


_STRING, _INTEGER, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}

# Functions as real programs have them: definition, None, questions that need it.
REAL_TOOLS = [
    (_function("get_time", "Gets the time in a city.", ["city"], city=_STRING), None,
     ["What time is it in {city}?", "What's the time in {city}?", "Tell me the time in {city}."]),
    (_function("set_timer", "Sets a timer.", ["minutes"], minutes=_INTEGER), None,
     ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes.", "Wake me in {minutes} minutes."]),
    (_function("play_music", "Plays a song.", ["song"], song=_STRING), None,
     ["Play {song}.", "Play the song {song}.", "Please play {song}.", "I want to hear {song}."]),
    (_function("send_message", "Sends a message to a person.", ["to", "text"], to=_STRING, text=_STRING), None,
     ["Send {text} to {to}.", "Tell {to} {text}.", "Send a message to {to}: {text}", "Send {to} the message {text}."]),
    (_function("convert_money", "Converts an amount of money.", ["amount", "from", "to"], amount=_NUMBER,
               **{"from": {"type": "string", "enum": ["dollars", "euros", "pounds"]},
                  "to": {"type": "string", "enum": ["dollars", "euros", "pounds"]}}), None,
     ["Convert {amount} {from} to {to}.", "How much is {amount} {from} in {to}?", "Change {amount} {from} into {to}."]),
    (_function("get_stock_price", "Gets the price of a stock.", ["symbol"], symbol=_STRING), None,
     ["What is the stock price of {symbol}?", "Get the price of {symbol}.", "How is the {symbol} stock?"]),
    (_function("search", "Searches the web.", ["query"], query=_STRING), None,
     ["Search for {query}.", "Look up {query}.", "Find {query} on the web.", "Search the web for {query}."]),
    (_function("turn_light", "Turns a light on or off.", ["room", "state"], room=_STRING,
               state={"type": "string", "enum": ["on", "off"]}), None,
     ["Turn {state} the light in {room}.", "Turn the light in {room} {state}.", "Light {state} in {room}."]),
]
