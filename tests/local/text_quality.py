"""How often the local models are right, measured with labelled inputs of our own.

`nox -s quality` measures, and writes the table in docs/local-server.md. The suite measures the fast
tasks, and a part of the others, and compares with that table.
"""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import numpy as np
import orjson
from attrs import frozen

from cfai import (
    BadRequest,
    Prompt,
    Rerank,
    ServerError,
    Summarization,
    TextClassification,
    TextEmbeddings,
    TextGeneration,
    Translation,
    WorkersAI,
    user,
)
from cfai.local import Server
from cfai.profiles import TASKS

from .quality import PAGE

START, END = "<!-- quality: nox -s quality -->\n", "<!-- end of quality -->\n"

LLAMA = "@cf/meta/llama-3.1-8b-instruct-fast"
BERT = "@cf/huggingface/distilbert-sst-2-int8"
BGE = "@cf/baai/bge-small-en-v1.5"
RERANKER = "@cf/baai/bge-reranker-base"
SUMMARIZER = next(model for model, task in TASKS.items() if task == "Summarization")
TRANSLATOR = "@cf/meta/m2m100-1.2b"

CLASSIFICATION = [
    ("I love this phone, the screen is wonderful.", "POSITIVE"),
    ("The food was delicious and the staff were friendly.", "POSITIVE"),
    ("A great film with a brilliant cast.", "POSITIVE"),
    ("Best hotel we have ever stayed in!", "POSITIVE"),
    ("She was very happy with the result.", "POSITIVE"),
    ("The new version works perfectly.", "POSITIVE"),
    ("Thank you, that was really helpful.", "POSITIVE"),
    ("What a beautiful and relaxing place.", "POSITIVE"),
    ("I would recommend it to everybody, it is fantastic.", "POSITIVE"),
    ("The concert was amazing.", "POSITIVE"),
    ("It exceeded my expectations.", "POSITIVE"),
    ("Not bad at all, I enjoyed it.", "POSITIVE"),
    ("This is the worst book I have read.", "NEGATIVE"),
    ("The room was dirty and it smelled awful.", "NEGATIVE"),
    ("I hate the new design.", "NEGATIVE"),
    ("The delivery was late and the box was damaged.", "NEGATIVE"),
    ("A boring film with terrible dialogue.", "NEGATIVE"),
    ("I want my two hours back.", "NEGATIVE"),
    ("It broke after one day.", "NEGATIVE"),
    ("The support was rude and useless.", "NEGATIVE"),
    ("I was disappointed by the poor quality.", "NEGATIVE"),
    ("Do not buy this, it is a waste of money.", "NEGATIVE"),
    ("The soup was cold and the bread was stale.", "NEGATIVE"),
    ("Oh great, it crashed again.", "NEGATIVE"),
]

# A text, one that means the same, and one that shares words with the first.
SIMILARITY = [
    ("How do I reset my password?", "I forgot my login code.", "How do I cook rice?"),
    ("The cat sleeps on the sofa.", "A kitten naps on the couch.", "The car stands on the street."),
    ("It is raining heavily.", "There is a downpour outside.", "It is growing slowly."),
    ("He bought a new car.", "He purchased an automobile.", "He bought a new shirt."),
    (
        "The doctor examined the patient.",
        "A physician saw the sick man.",
        "The chef tasted the soup.",
    ),
    ("She plays the violin.", "She is a musician.", "She plays football."),
    ("The shop opens at nine.", "The store's doors open at 9 am.", "The door opens outwards."),
    ("Prices rose last year.", "Inflation was high in the past year.", "Roses bloomed last year."),
    ("The plane was delayed.", "Our flight left late.", "The plain was wide."),
    ("I am hungry.", "I would like to eat something.", "I am angry."),
    ("The child is afraid of dogs.", "The kid fears dogs.", "The child is fond of dogs' toys."),
    ("Paris is the capital of France.", "The French capital is Paris.", "Capital gains are taxed."),
    (
        "The bank lends money.",
        "Loans are given by the institution.",
        "The bank of the river is steep.",
    ),
    ("Please turn off the light.", "Switch the lamp off.", "Please turn left at the light."),
    ("The team won the match.", "They were victorious in the game.", "The match lit the candle."),
    ("My computer is slow.", "The laptop takes ages to respond.", "My grandmother walks slowly."),
    ("We went to the beach.", "We spent the day by the sea.", "We went to the meeting."),
    ("The exam was difficult.", "It was a hard test.", "The diamond is a hard stone."),
    ("Vegetables are healthy.", "Eating greens is good for you.", "Vegetables are sold here."),
    ("He speaks three languages.", "He is trilingual.", "He has three brothers."),
    ("The meeting was cancelled.", "The appointment will not take place.", "The meeting was long."),
]

# A question and its answer; the other contexts are the answers of the next three questions.
RERANKING = [
    ("What is the capital of Italy?", "Rome has been Italy's capital since 1871."),
    (
        "How do plants make food?",
        "Photosynthesis turns light, water and carbon dioxide into sugar.",
    ),
    ("Who painted the Mona Lisa?", "Leonardo da Vinci painted the portrait in Florence."),
    ("How do I get a refund?", "Send the item back within 30 days to get your money back."),
    ("What causes tides?", "The gravity of the moon pulls the water of the oceans."),
    ("How long should pasta cook?", "Boil spaghetti for nine to eleven minutes."),
    ("When did the Second World War end?", "The war ended in Europe in May 1945."),
    ("Which planet is the largest?", "Jupiter is the biggest planet of the solar system."),
    (
        "How can I sleep better?",
        "Avoid screens and coffee in the evening, and keep the bedroom dark.",
    ),
    ("What is a lease?", "A contract by which a landlord lets property to a tenant."),
    ("Why is the sky blue?", "Air scatters blue sunlight more than red."),
    ("How do vaccines work?", "They train the immune system to recognize a germ."),
    ("What do pandas eat?", "Pandas feed almost only on bamboo."),
    ("How do I change a tyre?", "Loosen the nuts, lift the car with a jack, and swap the wheel."),
    ("Who wrote Hamlet?", "The tragedy is by William Shakespeare."),
    ("What is inflation?", "A general rise of prices, so that money buys less."),
    ("How fast is light?", "It travels at about 300,000 kilometres per second."),
    ("Where is Mount Fuji?", "The volcano stands on Honshu in Japan."),
    ("How is cheese made?", "Milk is curdled, and the curds are pressed and aged."),
    ("What does a heart do?", "It pumps blood through the body."),
    ("How do I train for a marathon?", "Run a little farther each week, and rest before the race."),
]

# Four sentences; the first is the one that the others are about.
SUMMARIES = [
    [f"{subject} {claim}.", f"{subject} {first}.", f"{second} {claim_word}.", aside]
    for subject, claim, first, second, claim_word, aside in (
        (
            "The new bridge",
            "connects the two towns and shortens the way to work",
            "shortens the way by an hour",
            "The two towns paid for the way to work over",
            "the bridge",
            "Lunch was served.",
        ),
        (
            "The company",
            "sold its factory in Texas to pay its debts",
            "had debts for years",
            "The factory in Texas was sold to pay",
            "the debts of the company",
            "It rained that day.",
        ),
        (
            "The city",
            "bans cars from the old centre to clean the air",
            "measured the air in the old centre",
            "Cars made the air of the centre dirty in",
            "the old city",
            "Bells rang at noon.",
        ),
        (
            "The school",
            "teaches all pupils to swim because many lakes are near",
            "has many lakes nearby",
            "All pupils learn to swim in the lakes near",
            "the school",
            "The roof is red.",
        ),
        (
            "The museum",
            "shows the largest collection of clocks in the country",
            "bought the clocks of a large collection",
            "The largest clocks in the country are in",
            "the museum collection",
            "Tickets are cheap.",
        ),
        (
            "The farmer",
            "grows apples without chemicals and sells them at the market",
            "sells the apples at the market",
            "Apples grown without chemicals cost more at",
            "the farmer's market",
            "A dog barked.",
        ),
        (
            "The train line",
            "will be closed in summer for repairs of the tunnel",
            "runs through a tunnel",
            "Repairs of the tunnel in summer will be hard for",
            "the train line",
            "Birds sang.",
        ),
        (
            "The study",
            "found that short walks lower blood pressure",
            "measured the blood pressure after walks",
            "Short walks helped the pressure in",
            "the study",
            "The printer jammed.",
        ),
        (
            "The team",
            "lost the final match after a penalty in the last minute",
            "played the final match",
            "The penalty in the last minute of the match hurt",
            "the team",
            "Tea was cold.",
        ),
        (
            "The library",
            "lends tools and games as well as books",
            "has lent books for a century",
            "Games and tools are lent by",
            "the library",
            "Monday was sunny.",
        ),
        (
            "The river",
            "flooded the village after three days of rain",
            "rose for three days",
            "Rain of three days made the village flood near",
            "the river",
            "A clock stopped.",
        ),
        (
            "The bakery",
            "uses old bread to brew beer",
            "throws away no bread",
            "Beer from old bread is sold by",
            "the bakery",
            "The street is long.",
        ),
        (
            "The law",
            "limits the rent of small flats in large cities",
            "was made for cities",
            "The rent of small flats in cities is limited by",
            "the law",
            "A bus came.",
        ),
        (
            "The telescope",
            "found water on a distant planet",
            "watched the planet for months",
            "Water on a planet was found with",
            "the telescope",
            "The lid was green.",
        ),
        (
            "The hospital",
            "opens a clinic for children with asthma",
            "treats children",
            "Asthma of children is treated in",
            "the hospital clinic",
            "Shoes were wet.",
        ),
        (
            "The airline",
            "charges for hand luggage from June",
            "carries luggage",
            "Hand luggage costs money from June with",
            "the airline",
            "It was Tuesday.",
        ),
        (
            "The park",
            "gets forty new trees to give shade in hot summers",
            "has no shade in summers",
            "Forty trees give shade in",
            "the park",
            "Milk was spilled.",
        ),
        (
            "The app",
            "warns drivers of ice on the road",
            "measures the road",
            "Drivers are warned of ice by",
            "the app",
            "Paper is thin.",
        ),
        (
            "The orchestra",
            "plays free concerts for students on Sundays",
            "likes students",
            "Students hear free concerts on Sundays by",
            "the orchestra",
            "Rust is red.",
        ),
        (
            "The village",
            "buys its shop to keep it from closing",
            "has one shop",
            "The shop was closing before it was bought by",
            "the village",
            "Snow fell.",
        ),
    )
]

TRIVIA = [
    ("What is the capital of France?", "Paris"),
    ("What is the capital of Japan?", "Tokyo"),
    ("What is the capital of Germany?", "Berlin"),
    ("What is the capital of Italy?", "Rome"),
    ("What is the capital of Spain?", "Madrid"),
    ("What is the capital of Egypt?", "Cairo"),
    ("What is the largest planet in our solar system?", "Jupiter"),
    ("Which planet is known as the Red Planet?", "Mars"),
    ("What is the chemical symbol for water?", "H2O"),
    ("Who wrote Romeo and Juliet?", "Shakespeare"),
    ("Who painted the Mona Lisa?", "Leonardo"),
    ("How many days are in a week?", "seven|7"),
    ("How many legs does a spider have?", "eight|8"),
    ("What is the largest ocean on Earth?", "Pacific"),
    ("Which gas do plants absorb from the air?", "carbon dioxide|CO2"),
    ("What is the freezing point of water in degrees Celsius?", r"\b0\b|zero"),
    ("Who developed the theory of relativity?", "Einstein"),
    ("On which continent is Kenya?", "Africa"),
    ("What language is spoken in Brazil?", "Portuguese"),
    ("Which organ pumps blood through the body?", "heart"),
    ("How many continents are there?", "seven|7"),
    ("What is the opposite of hot?", "cold"),
]

TOOLS = [
    {
        "name": name,
        "description": description,
        "parameters": {
            "type": "object",
            "properties": {field: {"type": "string"}},
            "required": [field],
        },
    }
    for name, description, field in (
        ("get_weather", "Get the current weather for a city", "city"),
        ("convert_currency", "Look up the exchange rate of a currency", "currency"),
        ("search_books", "Search for books by an author", "author"),
        ("play_music", "Play music of an artist", "artist"),
    )
]

CALLS = [
    ("What is the weather in Paris?", "get_weather", "Paris"),
    ("How is the weather in Tokyo today?", "get_weather", "Tokyo"),
    ("Will it rain in London?", "get_weather", "London"),
    ("Is it cold in Oslo right now?", "get_weather", "Oslo"),
    ("Tell me the current weather for Lima.", "get_weather", "Lima"),
    ("Weather in Cairo?", "get_weather", "Cairo"),
    ("What is the exchange rate of the euro?", "convert_currency", "euro"),
    ("Look up the exchange rate of the yen.", "convert_currency", "yen"),
    ("How much is the dollar worth today?", "convert_currency", "dollar"),
    ("Exchange rate of the pound, please.", "convert_currency", "pound"),
    ("What is the rate of the currency peso?", "convert_currency", "peso"),
    ("Find books by Jane Austen.", "search_books", "Austen"),
    ("Which books were written by George Orwell?", "search_books", "Orwell"),
    ("Search for books by the author Tolstoy.", "search_books", "Tolstoy"),
    ("I want to read a book by Agatha Christie.", "search_books", "Christie"),
    ("Show me novels by Charles Dickens.", "search_books", "Dickens"),
    ("Play some music by Mozart.", "play_music", "Mozart"),
    ("Put on a song by Madonna.", "play_music", "Madonna"),
    ("I want to listen to the Beatles.", "play_music", "Beatles"),
    ("Play music of the artist Adele.", "play_music", "Adele"),
]

# Five tools without arguments, and messages for one of them, or for none.
CHOICE_TOOLS = [
    {"name": name, "description": description, "parameters": {}}
    for name, description in (
        ("get_weather", "Get the current weather for a city"),
        ("convert_currency", "Look up the exchange rate of a currency"),
        ("search_books", "Search for books by an author"),
        ("play_music", "Play music of an artist"),
        ("set_alarm", "Set an alarm for a time of day"),
    )
]

CHOICES = [
    ("What is the weather in Paris?", "get_weather"),
    ("Do I need an umbrella in Dublin today?", "get_weather"),
    ("How hot is it in Madrid right now?", "get_weather"),
    ("Is it snowing in Moscow?", "get_weather"),
    ("What is the exchange rate of the euro?", "convert_currency"),
    ("How many dollars do I get for a pound?", "convert_currency"),
    ("What is the yen worth today?", "convert_currency"),
    ("Give me the rate of the Swiss franc.", "convert_currency"),
    ("Find books by Jane Austen.", "search_books"),
    ("Which novels did George Orwell write?", "search_books"),
    ("What else has this author published: Agatha Christie?", "search_books"),
    ("I am looking for a book by Tolstoy.", "search_books"),
    ("Play some music by Mozart.", "play_music"),
    ("Put on a song by Madonna.", "play_music"),
    ("I want to listen to the Beatles.", "play_music"),
    ("Play something by Miles Davis.", "play_music"),
    ("Set an alarm for seven in the morning.", "set_alarm"),
    ("Wake me up at six thirty.", "set_alarm"),
    ("Please wake me at eight tomorrow.", "set_alarm"),
    ("I need an alarm at noon.", "set_alarm"),
    ("Hello, how are you?", None),
    ("Thank you very much!", None),
    ("Tell me a joke.", None),
    ("What is your name?", None),
    ("Write a poem about the sea.", None),
    ("Translate good morning into French.", None),
    ("How many legs does a spider have?", None),
    ("Explain photosynthesis in one sentence.", None),
]

PEOPLE = [
    ("Ana", 31), ("Bob", 25), ("Carla", 47), ("David", 19), ("Emma", 62), ("Frank", 38),
    ("Grace", 54), ("Henry", 71), ("Irene", 22), ("Jack", 45), ("Karen", 33), ("Leo", 28),
    ("Maria", 59), ("Nina", 16), ("Oscar", 40), ("Paula", 36), ("Quinn", 51), ("Rosa", 67),
    ("Sam", 24), ("Tina", 43),
]  # fmt: skip

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}


async def classify(ai: WorkersAI, case: Any) -> bool:
    text, label = case
    labels = await ai.run(BERT, TextClassification(text))
    return bool(max(labels, key=lambda row: row.score).label == label)


async def compare(ai: WorkersAI, case: Any) -> bool:
    table = (await ai.run(BGE, TextEmbeddings(list(case)))).numpy()
    text, same, other = table / np.linalg.norm(table, axis=1, keepdims=True)
    return bool(text @ same > text @ other)


async def rerank(ai: WorkersAI, case: Any) -> bool:
    index = RERANKING.index(case)
    contexts = [RERANKING[(index + step) % len(RERANKING)][1] for step in (3, 0, 1, 2)]
    return (await ai.run(RERANKER, Rerank(case[0], contexts)))[0].id == 1


async def summarize(ai: WorkersAI, case: Any) -> bool:
    length = len(case[0].split()) + 6
    answer = await ai.run(SUMMARIZER, Summarization(" ".join(case), max_length=length))
    return case[0] in answer.text


async def answer_question(ai: WorkersAI, case: Any) -> bool:
    question, pattern = case
    answer = await ai.run(LLAMA, TextGeneration([user(question)], max_tokens=40, seed=1))
    return re.search(pattern, answer.text, re.IGNORECASE) is not None


async def call_tool(ai: WorkersAI, case: Any) -> bool:
    message, name, argument = case
    task = TextGeneration([user(message)], tools=TOOLS, max_tokens=60, seed=1)
    try:
        calls = (await ai.run(LLAMA, task)).tool_calls
    except BadRequest:  # The arguments did not end.
        return False
    return (
        len(calls) == 1
        and calls[0].name == name
        and argument.casefold() in str(calls[0].arguments).casefold()
    )


async def choose_tool(ai: WorkersAI, case: Any) -> bool:
    message, name = case
    task = TextGeneration([user(message)], tools=CHOICE_TOOLS, max_tokens=60, seed=1)
    calls = (await ai.run(LLAMA, task)).tool_calls
    return [call.name for call in calls] == ([] if name is None else [name])


async def fill_schema(ai: WorkersAI, case: Any) -> bool:
    name, age = case
    text = f"{name} is {age} years old. Write the name and the age as JSON."
    schema = {"type": "json_schema", "json_schema": PERSON}
    try:
        answer = await ai.run(LLAMA, Prompt(text, response_format=schema, max_tokens=60, seed=1))
    except BadRequest:
        return False
    return bool(orjson.loads(answer.text) == {"name": name, "age": age})


async def translate(ai: WorkersAI, case: Any) -> bool:
    try:
        await ai.run(TRANSLATOR, Translation(case, target_lang="de"))
    except ServerError as error:
        return bool(error.status == 501)
    return False


@frozen
class Measure:
    """A task, how an answer is judged, and the cases."""

    task: str
    right: str
    """What counts as right, for the docs."""
    cases: Sequence[Any]
    is_right: Callable[[WorkersAI, Any], Awaitable[bool]]
    in_suite: int
    """How many cases the suite measures."""


MEASURES = (
    Measure("Text classification", "the label of a review", CLASSIFICATION, classify, 24),
    Measure(
        "Text embeddings",
        "the text that means the same is nearer than one that shares words",
        SIMILARITY,
        compare,
        21,
    ),
    Measure("Reranking", "the answer to the question is first of four", RERANKING, rerank, 21),
    Measure("Summarization", "the summary has the key sentence of four", SUMMARIES, summarize, 20),
    Measure(
        "Text generation",
        "the answer to a question of general knowledge has the right word",
        TRIVIA,
        answer_question,
        4,
    ),
    Measure("Tools", "the right one of four tools, with the right argument", CALLS, call_tool, 4),
    Measure(
        "Choice of tools", "the right one of five tools, or rightly none", CHOICES, choose_tool, 28
    ),
    Measure("JSON mode", "the name and the age in a sentence", PEOPLE, fill_schema, 4),
    Measure(
        "Translation", "refused with 501", [text for text, _ in CLASSIFICATION[:20]], translate, 20
    ),
)


async def measure(ai: WorkersAI, item: Measure, count: int | None = None) -> tuple[int, int]:
    """How many of the first cases are right, and how many were tried."""
    cases = item.cases[:count]
    results = [await item.is_right(ai, case) for case in cases]
    return sum(results), len(results)


def render(results: Mapping[str, tuple[int, int]]) -> str:
    """The table for the docs."""
    lines = ["", "| Task | Right means | Right |", "|---|---|---|"]
    for item in MEASURES:
        right, count = results[item.task]
        lines.append(f"| {item.task} | {item.right} | {right} of {count} |")
    return "\n".join([*lines, "", ""])


async def main() -> int:
    results = {}
    async with Server(prewarm=True) as server, WorkersAI(**server.credentials) as ai:
        for item in MEASURES:
            results[item.task] = await measure(ai, item)
            right, count = results[item.task]
            print(f"{item.task}: {right} of {count}", flush=True)
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    after = rest.partition(END)[2]
    PAGE.write_text(before + START + render(results) + END + after)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
