"""Word lists that the prompt templates draw from: plain subjects, written for this project.

Nouns stand without an article (the template says "{a object}"); places carry their preposition ("on a quiet island");
clauses are in the order of an indirect question ("why the sky is blue"), so "Explain ..." and "Tell me ..." both fit.
"""


def _items(text: str) -> tuple[str, ...]:
    """A comma-separated text -> its items, stripped, in order."""
    return tuple(item.strip() for item in " ".join(text.split()).split(",") if item.strip())


NAMES = _items("""Mia, Leo, Anna, Omar, Ruth, Ben, Clara, Hugo, Nina, Sam, Ivy, Tom, Lena, Karim, Rosa, Peter, Amara,
    Finn, Sofia, Jack, Priya, Daniel, Yuki, Noah, Elena, Marcus, Aisha, Oliver, Mei, Lucas, Hana, Victor, Zara, Henry,
    Nora, Diego, Alice, Kofi, Emma, Felix, Layla, Simon, Grace, Mateo, Julia, Arjun, Ella, Max, Olga, David""")

TRAITS = _items("""shy, brave, curious, patient, stubborn, clever, clumsy, kind, lonely, cheerful, grumpy, honest,
    lazy, gentle, proud, quiet, restless, forgetful, careful, generous, impatient, nervous, wise, playful, hopeful,
    tired""")

ROLES = _items("""baker, fisher, teacher, gardener, doctor, sailor, painter, shepherd, librarian, carpenter, farmer,
    clockmaker, pilot, musician, cook, postal worker, tailor, young inventor, old soldier, student, nurse, bus driver,
    robot, explorer, scientist, chess player, swimmer, astronaut, blacksmith, beekeeper, shopkeeper, retired actor,
    dancer, potter, photographer, builder, writer, traveller, lighthouse keeper, mountain guide""")

ANIMALS = _items("""fox, owl, bear, rabbit, mouse, cat, dog, horse, turtle, crow, elephant, lion, frog, duck, hedgehog,
    squirrel, whale, penguin, donkey, goat, otter, spider, bee, ant, wolf, deer, parrot, snail, dolphin, camel,
    octopus, butterfly, eagle, monkey, pig, swan, seal, bat, giraffe, beaver""")

OBJECTS = _items("""rusty key, old map, silver bell, broken clock, wooden box, red kite, letter without a name, tiny
    boat, strange seed, golden coin, blue stone, torn photograph, pair of boots, lost diary, glass bottle, music box,
    lantern, empty nest, old bicycle, small telescope, violin, magic pencil, woollen scarf, mirror, compass, painting,
    feather, ring, book with blank pages, umbrella, basket of apples, wooden flute, paper crane, little robot, jar of
    honey""")

PLACES = _items("""in a small village, on a quiet island, in a busy city, at an old lighthouse, in a deep forest, on a
    snowy mountain, by a wide river, in a dusty library, at a railway station, on a farm, in a desert town, at the
    seaside, in a castle, on a sailing ship, in a school, at the market, in a hidden garden, on the moon, in an old
    mill, at a busy airport, in a museum, under a stone bridge, in a quiet valley, at a country inn, in a mountain
    cabin, on a night train, in a harbour town, at a summer camp""")

EVENTS = _items("""learns to ask for help, gets lost in the fog, makes an unlikely friend, keeps a promise, tells a lie
    and regrets it, finds the way home, loses something precious, wins a race by being slow, helps a stranger,
    discovers a secret room, faces a great storm, has to choose between two friends, gives away a favourite thing,
    wakes up in a different world, saves the day by accident, plans a surprise, learns to share, says sorry to an old
    friend, tries something new, forgets an important date, solves a mystery, overcomes a fear, repairs what was
    broken, waits for a letter that never comes, meets a talking tree, starts a small business, breaks a rule for a
    good reason, learns the value of patience, finds courage, travels for the first time, misses the last train, plants
    a tree, teaches others to read""")

MORALS = _items("""honesty, patience, friendship, courage, kindness, sharing, hard work, listening, forgiveness, trust,
    curiosity, being yourself, asking for help, gratitude, hope, teamwork, keeping a promise, learning from
    mistakes""")

MOODS = _items("""funny, sad, warm, exciting, calm, mysterious, hopeful, simple, strange, gentle, magical,
    thoughtful""")

SCIENCE = _items("""gravity, photosynthesis, the water cycle, electricity, magnetism, evolution, atoms, molecules, the
    solar system, black holes, friction, energy, heat, sound waves, light, lenses, mirrors, volcanoes, earthquakes,
    tides, the seasons, climate change, the greenhouse effect, fossils, dinosaurs, bacteria, viruses, vaccines, DNA,
    cells, the heart, the lungs, the brain, digestion, sleep, the immune system, bones, muscles, vitamins, acids and
    bases, rust, batteries, solar power, wind power, nuclear power, recycling, plastic, glass, steel, rockets,
    satellites, radio, the telescope, the microscope, lasers, computers, the internet, algorithms, search engines,
    encryption, robots, machine learning, computer memory, density, pressure, buoyancy, inertia, evaporation,
    condensation, the food chain, pollination, photosynthesis in the sea, coral reefs, glaciers, deserts, rainforests,
    rivers, clouds, thunder, wind, the ozone layer, stars, comets, eclipses, the phases of the moon, the speed of
    light, temperature, crystals""")

HISTORY = _items("""the printing press, the Roman Empire, ancient Egypt, ancient Greece, the Silk Road, the Vikings,
    the Middle Ages, the Renaissance, the Industrial Revolution, the steam engine, the invention of writing, the Great
    Wall of China, the pyramids, the first farmers, the Stone Age, the Bronze Age, the age of exploration, the first
    railways, the telegraph, the first aeroplanes, the space race, the moon landing, the history of paper, the history
    of money, the history of bread, the history of chess, the first computers, castles, knights, the compass, the
    Olympic Games, the history of tea, the history of maps, the history of clocks, the bicycle, medieval towns""")

MATHS = _items("""fractions, percentages, prime numbers, the average of a set of numbers, the area of a circle, angles,
    triangles, the Pythagorean theorem, probability, negative numbers, decimals, ratios, graphs, equations, square
    roots, powers of two, binary numbers, symmetry, the number zero, pi, multiplication, long division, even and odd
    numbers, the median, simple interest, compound interest, coordinates, sets, logic, rounding, the order of
    operations""")

DAILY = _items("""budgeting, saving money, cooking rice, baking bread, making soup, composting, first aid, healthy
    eating, exercise, stretching, good posture, washing clothes, ironing a shirt, sewing a button, traffic rules,
    public transport, recycling at home, job interviews, teamwork, time management, note taking, public speaking, good
    manners, banks, insurance, taxes, libraries, elections, newspapers, advertising, weather forecasts, house plants,
    pets, camping, chess, football, swimming, yoga, music theory, drawing, photography, poetry, theatre, cheese,
    chocolate, coffee, tea, honey, salt, sugar, spices, olive oil, bread, pasta, vegetables, bicycles, trains, cars,
    ships, bridges, lifts, locks, clocks""")

CLAUSES = _items("""why the sky is blue, why leaves change colour in autumn, how bees make honey, why the sea is salty,
    how birds fly, why we sleep, how a rainbow forms, why ice floats, how a plane stays in the air, why we dream, how
    magnets work, why cats purr, how fish breathe, how a seed becomes a tree, why the moon changes shape, how bread
    rises, why onions make us cry, how a fridge keeps food cold, how soap cleans, why metal feels cold, how a bicycle
    stays upright, how a camera works, why we have leap years, why the sun sets, how snow forms, how mountains are
    made, why volcanoes erupt, how spiders make webs, why dogs wag their tails, how plants drink water, why we need
    sleep, how the heart pumps blood, why exercise is good for us, how we hear sounds, how eyes see colour, why some
    animals hibernate, how birds find their way, why bats fly at night, how a compass works, how paper is made, how
    glass is made, how chocolate is made, how cheese is made, how a bridge carries weight, how a clock keeps time, how
    a battery stores energy, how a light bulb works, how a phone sends a message, how the internet works, how a
    computer stores a picture, how a search engine finds pages, why passwords should be long, how a lock works, how a
    boat floats, how a submarine dives, how a rocket flies, why planets are round, how stars are born, why we have
    seasons, what causes thunder, what causes tides, what causes an earthquake, what a hurricane is, how clouds form,
    why deserts are dry, why trees are important, how rivers shape the land, why bees matter, how worms help the soil,
    why rainforests matter, how a vaccine works, why we wash our hands, what a calorie is, why water is important, how
    teeth decay, why we yawn, how muscles grow, why we laugh, how babies learn to talk, why people keep diaries, why
    people trade, what money is for, how a bank works, what a tax is, how prices are set, how a law is made, why we
    vote, what a museum is for, why we read stories, how a newspaper is made, how music affects us, why zero is useful,
    what a prime number is, what an average tells us, how to add two fractions, what an angle is, why maps use scales,
    how a calendar works, why clocks have twelve hours, how sailors found their way long ago, how the pyramids were
    built, why castles had thick walls, how people lived without electricity, how writing began""")

AUDIENCES = _items("""a child, a ten-year-old, a curious teenager, a beginner, a grandparent, someone who has never
    heard of it, a new student, a friend, a class of young pupils, a busy parent, a visitor from the past, a complete
    newcomer""")

SKILLS = _items("""cooking, drawing, running, swimming, writing, reading faster, learning a language, playing the
    guitar, playing chess, playing the piano, gardening, public speaking, saving money, sleeping well, waking up early,
    singing, taking photographs, cycling, painting, programming, mental arithmetic, remembering names, making friends,
    listening, spelling, handwriting, baking bread, keeping the house tidy, planning a week, studying for tests,
    telling stories, staying calm, dancing, knitting, hiking, woodwork, typing, taking notes, giving presents, asking
    good questions, eating well, teaching others, working in a team, growing vegetables, training a dog, staying
    focused""")

LIMITS = _items("""I have little time, I am a beginner, I have very little money, I live in a small flat, I get bored
    easily, I work long days, I have no teacher, I am shy, I am afraid of mistakes, I have two small children, I am
    over sixty, I only have ten minutes a day, I have tried before and gave up, I do not know where to start, I am
    still at school, I have no special tools, I am often tired, I share a room, I travel a lot, I learn slowly""")

PROBLEMS = _items("""I keep forgetting my keys, I have a test tomorrow and feel nervous, my best friend is angry with
    me, my neighbour plays loud music at night, I cannot fall asleep, I spend too much time on my phone, my plants keep
    dying, I am always late, I have too much to do, my room is a mess, I have to give a speech next week, my dog barks
    all day, I am new in town and know nobody, my brother and I argue a lot, I want to change my job, I feel bored at
    weekends, my bread never rises, I want to save for a holiday, I lost my wallet, my bicycle has a flat tyre, I
    forgot a birthday, I find maths hard, my cat scratches the sofa, I have a job interview on Monday, I broke a vase
    that belongs to my aunt, I cannot decide what to study, my back hurts after work, I keep putting things off, I miss
    my family, I do not like my new haircut, my team never listens to me, I am afraid of flying, my computer is very
    slow, I want to eat less sugar, I often lose my temper, I have to move house next month, I want to read more books,
    I have guests tonight and an empty fridge, my children will not eat vegetables, I made a mistake at work, I need a
    present for my father, my garden is full of weeds, I want to learn to swim as an adult, my flatmate never
    cleans""")

HELPERS = _items("""a wise friend, a patient teacher, a kind neighbour, a good coach, a cheerful aunt, an experienced
    colleague, a calm grandfather, a practical older sister, a librarian, a friendly expert""")

HABITATS = _items("""the forest, the sea, the desert, the mountains, a river, a pond, the jungle, the garden, the
    Arctic, the grasslands, a cave, a meadow, the soil, a swamp, a coral reef, the city""")

SPOTS = _items("""kitchen, classroom, garden shed, hospital, library, supermarket, workshop, school bag, bathroom,
    park, railway station, airport, bakery, farm, museum, office, garage, toy shop, castle, ship, tent, post office,
    zoo, hotel, bus, theatre, bookshop, market, playground, laboratory""")

OCCASIONS = _items("""birthday party, picnic, rainy afternoon, school trip, family dinner, camping weekend, long train
    ride, wedding, house move, winter evening, summer holiday, job interview, first day at school, garden party, road
    trip, walk in the woods, day at the beach, team meeting, visit to a big city, week without television, quiet
    Sunday, charity sale, science fair, village festival, sports day, weekend with grandparents""")

FOODS = _items("""tomato soup, pancakes, apple pie, vegetable curry, fried rice, bread, an omelette, a salad, lemonade,
    mashed potatoes, chicken stew, pasta with tomato sauce, banana bread, oatmeal, roast vegetables, lentil soup,
    pizza, fruit salad, a sandwich, scrambled eggs, rice pudding, onion soup, potato salad, carrot cake, hot chocolate,
    dumplings, bean stew, fish soup, garlic bread, a cup of tea, jam, yoghurt with berries, corn bread, stuffed
    peppers""")

TASKS = _items("""plant a tree, wash a woollen jumper, change a bicycle tyre, make a paper plane, tie a tie, clean a
    window, build a bird house, pack a suitcase, write a thank-you note, set a table, paint a wall, light a campfire
    safely, make a kite, wrap a present, sew on a button, start a compost heap, bath a dog, iron a shirt, read a map,
    use a compass, sharpen a pencil, hang a picture, fold a letter, plan a party, clean a fish tank, grow tomatoes on a
    balcony, learn ten new words a day, prepare for an exam, put up a tent, boil an egg, fix a dripping tap, organise a
    bookshelf, make a simple budget, take a good photograph, keep a diary, write a shopping list, make candles, repot a
    house plant, make a scarecrow, save a file on a computer, choose a strong password, back up a computer""")

PAIRS = _items("""cats|dogs, tea|coffee, trains|planes, books|films, the city|the country, summer|winter,
    apples|oranges, bread|rice, rivers|lakes, frogs|toads, stars|planets, bicycles|cars, paper books|electronic books,
    oil paint|watercolour, guitars|violins, chess|draughts, bees|wasps, crocodiles|alligators, butter|olive oil,
    mornings|evenings, running|swimming, letters|emails, wood|metal, sheep|goats, lists|tuples, deserts|jungles,
    weather|climate, clocks|sundials, solar power|wind power, fractions|decimals, football|tennis, butterflies|moths,
    whales|sharks, gold|silver, cash|bank cards, renting a home|buying a home, working alone|working in a team,
    radio|television, ferries|bridges, owls|eagles, potatoes|pasta, lions|tigers, rabbits|hares, paper maps|phone maps,
    mountains|the sea, cooking|baking, theatre|cinema, steel|wood, a diary|a calendar, for loops|while loops,
    poems|songs, cotton|wool, rain|snow, salt|sugar""")

ASPECTS = _items("""cost, looks, history, usefulness, what people like about them, what makes each special, what a
    beginner should know, everyday use, the main advantages, the main drawbacks, what they share, how much care they
    need, how they are used""")

PEOPLE = _items("""teacher, student, farmer, shopkeeper, customer, tourist, bus driver, doctor, patient, librarian,
    reader, waiter, chef, gardener, neighbour, mechanic, painter, grandfather, child, coach, player, scientist,
    reporter, pilot, sailor, baker, musician, detective, robot, time traveller, museum guide, builder, writer, mother,
    fisherman""")

CHATS = _items("""a lost umbrella, the weather, a late train, the best way to make tea, a broken window, a new book,
    how to grow tomatoes, a stray cat, plans for the weekend, a strange noise, a birthday present, the price of bread,
    a forgotten promise, the stars, learning to swim, a school project, a recipe that went wrong, an old photograph,
    moving to a new town, whether robots can dream, a football match, a missing key, the first snow, music, a trip to
    the mountains, how bees make honey, a small mistake, saving money, a village festival, a difficult exam, a new job,
    a garden fence, a wrong order, a map with no names, getting up early, a film they both saw, healthy food""")

FRIENDS = _items("""a friend, my grandmother, my old teacher, my cousin, my neighbour, my sister, my brother, my uncle,
    a pen pal, my parents, my roommate, my aunt, a former classmate, a friend who is ill, a friend who moved away""")

FRIENDLY = _items("""with thanks for a present, with an invitation to a picnic, saying sorry for missing a birthday,
    about a new job, describing a holiday by the sea, asking for a recipe, sharing good news, with congratulations on
    an exam, with good wishes, asking for advice about a pet, about a new hobby, planning a weekend trip, remembering a
    day spent together, describing a new home, asking to borrow a tent, with thanks for help with a hard task, about a
    funny mistake, recommending a book, with an invitation to dinner, describing the first day at a new school, asking
    for news, offering help with a move, about a new garden, describing a walk in the snow, promising to visit soon,
    about a stray cat""")

OFFICES = _items("""the manager of a hotel, the local library, my landlord, the town council, my boss, a bookshop, a
    school head teacher, a train company, a furniture shop, a museum, a language school, a sports club, a colleague, a
    new customer, a bicycle shop, the editor of a newspaper, a swimming pool, a garden centre, a travel agency, a
    café""")

FORMAL = _items("""asking about opening times, asking for a part-time job, reporting a lost scarf, thanking them for
    good service, complaining politely about noise, asking for a refund, asking to move a meeting, offering to
    volunteer, suggesting an improvement, asking for more information, cancelling an appointment, asking for permission
    to take photographs, praising a helpful member of staff, reporting a broken light, asking for a reply by Friday,
    confirming a visit, asking about prices for groups, explaining a delay, inviting them to a school fair, asking for
    a repair""")

THINGS = _items("""sunrise over the sea, thunderstorm, busy market, quiet library, autumn forest, old house, snowy
    street, kitchen on a Sunday morning, railway station at night, small garden, mountain lake, village square, harbour
    at dawn, desert at noon, bakery before opening time, classroom after school, campfire, rainy window, wheat field,
    farmyard, crowded bus, toy shop, waterfall, night sky, meadow in spring, lighthouse in a storm, river in winter,
    workshop, empty beach, summer fair, attic full of old things, tree house, long bridge, foggy morning, birthday
    cake, old bookshop""")

SENSES = _items("""sounds, smells, colours, light, small details, movement, shapes, feelings, all five senses, simple
    comparisons""")

POEMS = _items("""rain, the moon, an old tree, a cat, the sea, winter, spring, friendship, a bicycle, bread, stars, the
    wind, my grandmother's garden, a train at night, the first day of school, a quiet morning, snow, a river, a small
    bird, time, a lost glove, home, a lighthouse, summer, autumn leaves, a cup of tea, books, a mountain, clouds, a
    spider's web, dreams, a dog waiting at the door, the colour blue, an empty chair, bees, a candle, the road, a
    market, shadows, a clock""")
