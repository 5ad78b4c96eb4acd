"""What the prompts say: templates for each kind, their word lists, and endings that set the length of the answer."""
from . import python_tasks, words

LISTS = {name.lower(): items for name, items in vars(words).items() if name.isupper()}
LISTS["topics"] = words.SCIENCE + words.HISTORY + words.MATHS + words.DAILY
LISTS["functions"] = tuple(f"`{signature}` that {does}" for signature, does in python_tasks.FUNCTIONS)
LISTS["plain_functions"] = tuple(f"{does}. Call it `{signature}`" for signature, does in python_tasks.FUNCTIONS)
LISTS["classes"] = tuple(f"`{name}` with the methods {methods}" for name, methods in python_tasks.CLASSES)
LISTS["pairs"] = tuple(pair.replace("|", " and ") for pair in words.PAIRS)
LISTS["amounts"] = ("three", "four", "five", "six", "seven", "eight")

# {list} is an item of that list, the same at each mention; {list2} another item of it; {a list} or a {list} has
# "a" or "an" before it.
TEMPLATES = {
    "story": """Write a {moods} story about {a traits} {roles} {places} who {events}.
        Tell me a story about {a traits} {animals} that {events}.
        Write a story {places} in which {names}, {a traits} {roles}, finds {a objects}.
        Write a short tale about {a animals} and {a animals2} that teaches a lesson about {morals}.
        {names} finds {a objects} {places}. Write a {moods} story about what happens next.
        Write {a moods} bedtime story about {a animals} named {names} and {a objects}.
        Make up {a moods} story about {names}, {names2} and {a objects}.
        Write {a moods} story {places} with {a traits} {roles} called {names}.
        Write a story about {a traits} {roles} and {a animals} {places}.""",
    "explanation": """Explain {topics} to {audiences}.
        Explain to {audiences} {clauses}.
        Explain in plain words {clauses}.
        Give a simple introduction to {topics}. Imagine that you are writing for {audiences}.
        Help me understand {topics}. Use an example from daily life with {names} in it.
        Teach me about {topics} with a story from everyday life about {names}.
        Describe step by step {clauses}, so that {audiences} can follow.
        Write a paragraph about {topics} for a school magazine, with {audiences} in mind.
        What should {audiences} know about {topics}?
        {names} asks {clauses}. Write an answer for {audiences}.""",
    "list": """List {amounts} things that you can find in a {spots}.
        List {amounts} animals that live in {habitats}, with a fact about each.
        Give me {amounts} ideas for a {occasions}.
        List {amounts} things to pack for a {occasions}.
        List {amounts} interesting facts about {topics}.
        Give {audiences} {amounts} tips for {skills}.
        List {amounts} words that describe a {things}.
        Name {amounts} reasons why people enjoy {skills}.
        What are {amounts} things that a {people} might say at a {occasions}?
        List {amounts} questions that a {people} could ask about {topics}.
        Make a list of {amounts} names for a {animals} that belongs to a {traits} {roles}.
        List {amounts} differences between {pairs}.""",
    "dialogue": """Write a conversation between a {people} and a {people2} about {chats}.
        Write a {moods} dialogue {places} between a {people} and a {people2}. They talk about {chats}.
        {names} and {names2} meet {places} and talk about {chats}. Write what they say.
        Write a dialogue in which a {people} explains {topics} to a {people2}.
        Write {a moods} chat between a {animals} and a {animals2} about {chats}.
        Write a conversation in which {names} tells {names2} about {chats}. {names2} is {traits}.
        Write an interview in which a {people} asks a {people2} about {chats}.""",
    "python": """Write a Python function {functions}.
        Write a function {functions}, in Python.
        In Python, define {functions}.
        I am learning Python. Show me how to write {functions}.
        Write a Python function that {plain_functions}.
        I need a Python function that {plain_functions}.
        Write a simple Python function for {audiences} that {plain_functions}.
        Show {audiences} how to write the Python function {functions}.
        Write a Python class {classes}.
        Show {audiences} a Python class {classes}.""",
    "advice": """{problems}. What should I do?
        {problems}, and {limits}. What do you suggest?
        {problems}. What would {helpers} tell me?
        {names} says: "{problems}." Give {names} some advice, as {helpers} would.
        I want to get better at {skills}, but {limits}. How do I start?
        How can I improve at {skills} if {limits}?
        Give advice about {skills} to {audiences}.
        {names} wants to get better at {skills} but says: "{limits}." Reply to {names} like {helpers}.
        What mistakes should {audiences} avoid when it comes to {skills}?
        A {people} asks for advice: "{problems}." What do you say?""",
    "question": """Can you tell me {clauses}?
        Do you know {clauses}?
        I have always wondered {clauses}. Can you help?
        My friend {names} asked me {clauses}. What should I answer?
        A {people} asked me {clauses}. What is a good answer?
        What is the most important thing to know about {topics}?
        What is one surprising fact about {topics} that a {people} would enjoy?
        Why might a {people} want to know about {topics}?
        If you had to choose between {pairs}, what would you pick, and why?
        What would happen if a {people} had to spend a day with a {animals}?
        What is special about {topics}, and why should a {people} care?
        What does a {people} do on a normal day?
        {names} believes that nobody needs to know {clauses}. What would you say?""",
    "letter": """Write a letter to {friends} {friendly}. Sign it {names}.
        Write a friendly email to {friends} {friendly}. Sign it {names}.
        Write {a moods} note to {friends} {friendly}. Sign it {names}.
        Write a postcard from {names} to {names2}, {friendly}.
        Write a polite email to {offices} {formal}. Sign it {names}.
        Write a formal letter to {offices} {formal}. Sign it {names}.
        Help me write a message to {offices} {formal}. My name is {names}.
        Write a letter from a {people} to a {people2}, {friendly}.""",
    "description": """Describe a {things}. Pay attention to {senses}.
        Describe a {things} as {a traits} {roles} would see it.
        Describe a {things} through the eyes of a {animals}.
        Describe {a traits} {roles} {places}.
        Write {a moods} description of a {things}.
        {names} stands before a {things}. Describe it with {senses}.
        Describe {a objects} that {names}, {a roles}, keeps at home.
        Describe a {animals} to {audiences}.
        Describe the day of {a traits} {roles} called {names}.""",
    "instructions": """Explain to {audiences} how to {tasks}.
        How do I {tasks}? Explain it as {helpers} would.
        Write clear steps on how to {tasks} for {audiences}.
        Give me a simple recipe for {foods}, written for {audiences}.
        {names} wants to make {foods} for a {occasions}. Write down the steps.
        {names} wants to {tasks} for the first time. Write the steps that {helpers} would give.
        How can {audiences} get ready for a {occasions}?
        Write a plan for a {occasions} with {names} and {names2}.
        I have never made {foods}, and {limits}. Tell me how to make it.""",
    "comparison": """Compare {pairs}. Think of {aspects}.
        Compare {pairs} for {audiences}. Think of {aspects}.
        What is the difference between {pairs}? Explain it to {audiences}.
        What do {pairs} have in common? Explain it as {helpers} would.
        {names} and {names2} cannot agree about {pairs}. Describe both points of view.
        Should a {people} choose between {pairs} by thinking of {aspects}? Explain.
        Write a fair comparison of {pairs} that a {people} would find useful.
        Compare the life of a {people} with the life of a {people2}.
        Compare a {animals} with a {animals2}. Write it for {audiences}.""",
    "poem": """Write {a moods} poem about {poems}.
        Write a poem about {poems} and {poems2}.
        Write a poem about {poems} for {friends}.
        Write {a moods} poem about {a animals} {places}.
        Write a poem in which {a traits} {roles} sees {a objects}.
        Write {a moods} song about {a traits} {animals} called {names}.
        Write a poem about {poems} as {a traits} {roles} would write it.
        Write {a moods} poem about {morals} and {a animals}.""",
}

_SENTENCES = ("Answer in one sentence.", "Answer in two sentences.", "Use at most three sentences.", "Be brief.",
              "Keep it to two or three sentences.", "Give a short answer.")
_WRITING = ("Use only two sentences.", "Use only three sentences.", "Keep it very short: three sentences at most.")
_LENGTHS = ("", "", "Use about 100 words.", "Use about 150 words.", "Write two paragraphs.", "Use simple words.",
            "Keep it under 200 words.", "Write one good paragraph.")
_REASONS = (*_LENGTHS, "Give an example.", "End with a short summary.")
_VERSES = ("", "Write eight lines.", "Write three verses.", "Write twelve lines.", "Use simple words.",
           "Make it rhyme.")
SHORT_ENDINGS = dict.fromkeys(TEMPLATES, _SENTENCES) | {
    "story": _WRITING, "letter": _WRITING, "description": _WRITING,
    "list": ("Use only a few words for each.", "No explanations, please.", "Keep each to one short line."),
    "dialogue": ("Write only four lines.", "Keep it to three short lines.", "Let each speak only twice."),
    "python": ("Give only the code.", "Keep it as short as you can.", "Show just the code, without comments."),
    "instructions": ("Use three short steps.", "Keep it to two or three sentences.", "Be brief."),
    "poem": ("Write only two lines.", "Write only four short lines.", "Make it three lines long."),
}
LONG_ENDINGS = dict.fromkeys(TEMPLATES, _REASONS) | {
    "story": (*_LENGTHS, "Give it a happy ending.", "Give it a surprising ending.", "Give it a title."),
    "description": _LENGTHS,
    "letter": ("", "", "Use about 100 words.", "Write two paragraphs.", "Use simple words.",
               "Keep it under 150 words."),
    "list": ("", "", "Explain each in a sentence.", "Number them.", "Add a reason for each.",
             "Start with the best one."),
    "dialogue": ("", "", "Write about ten lines.", "Let each speak four times.", "End it in a friendly way.",
                 "Make it lively."),
    "python": ("", "", "Add a docstring.", "Explain how it works.", "Add an example of how to use it.",
               "Use type hints.",
               "Add comments.", "Then explain the code in a few sentences.", "Then show a small test."),
    "instructions": ("", "", "Use numbered steps.", "Use about 100 words.", "Say what is needed first.",
                     "Add a tip at the end.",
                     "Keep it under 200 words."),
    "poem": _VERSES,
}
