"""The words of the generated texts: names, places, things and others.

All things are countable and have a regular plural. No word contains a digit.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES = _words(
    """
    Ada Adam Agnes Aida Alan Alba Alex Alice Alma Amara Amir Amy Ana Anders Andrea Angela Anita
    Anna Anton Aria Arthur Asha Astrid Axel Aya Beatrice Bella Ben Bernard Berta Bianca Bjorn Bob
    Boris Brenda Brian Bruno Camila Carl Carla Carmen Cecil Celia Chen Chiara Chloe Clara Claude
    Colin Cora Dan Dana Daniel Daphne Dara David Dora Doris Edgar Edith Edna Eli Elena Elisa Ella
    Elsa Emil Emma Enzo Erik Erin Esther Ethan Eva Fabio Farah Fatima Felix Fiona Flora Frank Freya
    Frida Gabriel Gail George Gina Gloria Grace Greta Gustav Hana Hannah Harald Harry Hassan Hazel
    Heidi Helen Henry Hilda Hugo Ian Ida Igor Ilse Imran Ines Ingrid Irene Iris Isaac Isla Ivan Ivy
    Jack Jacob Jade James Jana Janet Jasmin Jean Jenny Joan Joel John Jonas Judith Julia Kai Karen
    Karim Karl Kate Kenji Kim Klara Kurt Lara Laura Lea Leila Lena Leo Lia Liam Lily Linda Lisa Liv
    Lola Louis Lucas Lucy Luis Luna Lydia Mabel Magnus Maja Malik Marco Maria Mark Marta Martin Mary
    Matt Maya Mei Mia Mila Mira Mona Nadia Nancy Naomi Nela Nick Nils Nina Noah Nora Olga Olive
    Oliver Omar Oscar Otto Pablo Paula Pedro Petra Philip Pia Priya Quentin Rachel Rafael Rana Raul
    Ravi Rita Robert Rosa Ruben Ruth Ryan Sally Sam Samira Sara Selma Silas Simon Sofia Sonja Stella
    Sven Tara Tessa Theo Thomas Tilda Tim Tina Tobias Tom Uma Una Ursula Vera Victor Vincent Viola
    Wanda Wendy Wilma Xenia Yara Yasmin Yuki Yusuf Zara Zelda Zoe
    """
)

PLACES = _words(
    """
    hall attic cellar kitchen garden garage library office studio bedroom bathroom pantry
    workshop barn stable tower chapel gallery lobby lounge corridor balcony terrace courtyard
    basement nursery laundry closet greenhouse shed cottage cabin tent hut castle palace museum
    theatre cinema hotel hostel inn tavern cafe bakery market shop store warehouse factory mill
    mine quarry harbour dock pier ship ferry station depot airport hangar terminal school college
    clinic hospital pharmacy bank court prison bunker bridge tunnel park forest meadow orchard
    vineyard farm field island beach cave valley camp arena stadium gym pool sauna salon lab
    observatory archive vault treasury armoury monastery abbey temple mosque church crypt lighthouse
    pavilion kiosk canteen cafeteria classroom auditorium playground zoo aquarium circus
    ballroom parlour den loft annex porch veranda gatehouse
    """
)

THINGS = _words(
    """
    lamp chair table book cup plate bowl spoon fork bottle jar basket barrel crate bag
    sack bucket broom hammer nail saw drill ladder rope chain lock key coin ring necklace
    bracelet mirror clock candle lantern torch carpet curtain pillow blanket towel bed sofa
    desk stool bench cabinet drawer door window brick tile plank pipe pump wheel tyre engine cart
    wagon bicycle car van truck boat canoe oar anchor sail kite ball bat racket doll puppet drum
    flute guitar violin piano trumpet pen pencil marker crayon ruler stamp letter card map poster
    painting statue vase flower rose tulip tree bush pumpkin carrot onion apple pear plum
    lemon orange banana melon egg cake pie cookie muffin pretzel sandwich hat cap coat jacket shirt
    skirt sock shoe boot glove belt button needle scarecrow robot camera phone radio computer screen
    keyboard printer cable socket magnet telescope microscope helmet shield sword arrow bow spear
    medal trophy badge ticket parcel envelope folder notebook magazine newspaper pot pan kettle
    oven fridge freezer fan heater stove tap sink tub bell whistle horn flag banner
    """
)

CITIES = _words(
    """
    Oslo Bergen Lisbon Porto Madrid Seville Paris Lyon Nice Rome Milan Turin Naples Venice Athens
    Sofia Berlin Hamburg Munich Cologne Vienna Graz Zurich Geneva Basel Prague Brno Warsaw Krakow
    Riga Tallinn Vilnius Helsinki Turku Stockholm Malmo Dublin Cork London Leeds York Bath Oxford
    Glasgow Cairo Tunis Rabat Dakar Accra Lagos Nairobi Kampala Lusaka Harare Durban Istanbul Ankara
    Izmir Beirut Amman Doha Dubai Muscat Tehran Kabul Delhi Mumbai Chennai Kolkata Dhaka Colombo
    Bangkok Hanoi Manila Jakarta Seoul Busan Tokyo Osaka Kyoto Nagoya Beijing Shanghai Taipei Sydney
    Perth Hobart Auckland Lima Quito Bogota Caracas Havana Toronto Montreal Boston Chicago Denver
    Dallas Houston Seattle Portland Phoenix Austin Miami Atlanta
    """
)

# Each job includes its article.
JOBS = tuple(
    f"an {job}" if job[0] in "aeiou" else f"a {job}"
    for job in _words(
        """
    baker butcher carpenter plumber painter teacher doctor nurse dentist lawyer judge
    farmer fisher sailor pilot driver mechanic engineer architect artist actor singer dancer drummer
    pianist writer poet editor printer librarian historian chemist biologist astronomer geologist
    programmer designer tailor weaver potter jeweller florist gardener cook waiter barber clerk
    cashier banker broker soldier guard detective firefighter postman porter tutor translator
    photographer surgeon optician vet miner mason welder roofer glazier beekeeper shepherd
    ranger diver coach referee umpire jockey magician
    """
    )
)

COLOURS = _words(
    """
    red green blue yellow white black brown grey pink purple violet turquoise golden silver
    crimson scarlet beige ivory maroon navy teal olive amber indigo lilac
    """
)

FOODS = _words(
    """
    bread butter cheese rice pasta soup salad fish chicken beef honey jam chocolate yoghurt
    porridge pizza curry noodles beans lentils spinach broccoli cabbage mushrooms olives grapes
    cherries mangoes peaches figs dates walnuts almonds popcorn pancakes waffles dumplings sushi
    tofu garlic ginger cinnamon vanilla coffee tea milk juice cocoa lemonade
    """
)

# Quantities that a tool may report, and states of things.
QUANTITIES = _words(
    """
    price total temperature number status order place time age weight length name result balance
    distance room day city colour
    """
)
STATES = _words(
    "done open closed ready sunny rainy cloudy late early full empty busy free sent lost found"
)

# Sentences that no question asks about.
ASIDES = (
    "The weather was mild that day.",
    "Nobody was in a hurry.",
    "It had rained in the morning.",
    "The doors were open.",
    "This was written down with care.",
    "The list was checked twice.",
    "Some of this may change later.",
    "Visitors are welcome.",
    "The old notes were lost.",
    "All of this is well known.",
    "A short walk leads to the river.",
    "The summer was long and dry.",
    "Everyone agreed on that.",
    "The rest is not important.",
)


def plural(thing: str) -> str:
    if thing.endswith(("s", "x", "z", "ch", "sh")):
        return f"{thing}es"
    return f"{thing}s"


def with_article(words: str) -> str:
    """Add the article by the first letter: `an ancient team`."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"
