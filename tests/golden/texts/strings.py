"""200 odd strings, of the kinds that sources clean in different ways."""

PLAIN = """
a photo of a dog
A Photo of a DOG.
TWO CATS ON A RED SOFA!
NASA astronaut in the ISS
iPhone 15 Pro Max
McDonald's at night
the U.S. Capitol, Washington D.C.
e.g. a cat, i.e. an animal
a cat's toy and the dogs' bowls
don't, can't, we've, they'd, she'll, I'm, you're
rock 'n' roll
"quoted" and 'quoted' and `ticked`
(in brackets) [and others] {and braces}
snake_case_name and kebab-case-name
IMG_2024_05_17_093012.JPG
100% cotton, $5.99 + tax = €6.50
#sunset @ the beach :-)
what?! really... yes!!!
a/b\\c|d~e^f
1,234,567.89 and 3.14159
7 dogs, 12 cats, 2024
e-mail: someone@example.org
https://example.org/a?b=c&d=e#f
C++ and C# and F*
a photo of a {}.
{} in the snow
<b>bold</b> words
a < b > c
5 > 3 && 2 < 4
!
!!!
...
?
_
___
- - -
'
a
A
I
""".strip("\n").split("\n")

TYPOGRAPHY = [
    "It’s a dog’s life",
    "IT’S A DOG’S LIFE",
    "“Smart quotes” and ‘single ones’",
    "„deutsche“ und «französische» Zeichen",
    "the ﬁnal ﬂight of the oﬃce staﬀ",
    "ﬃ ﬄ ﬅ ﬆ",
    "an em—dash, an en–dash and a minus −",
    "wait… what…",
    "non‑breaking hyphen and soft\u00adhyphen",
    "a non\u00a0breaking space",
    "thin\u2009space, em\u2003space and ideographic\u3000space",
    "ＦＵＬＬＷＩＤＴＨ ｌｅｔｔｅｒｓ １２３！",
    "ｈａｌｆ　ｗｉｄｔｈ ｶﾀｶﾅ",
    "½ cup, 3¼ miles, 10² and H₂O",
    "№ 5, ™ and ® and ©",
    "Ⅷ and ⅳ, ① and ②",
    "5′ 11″ tall",
    "ŉ and ĳ and Ǆ",
    "a • bullet · middle ◦ ring",
    "arrow → and ⇒, math ≤ ≥ ≠ ∞",
    "¡hola! ¿qué?",
    "a‚b, low quote",
    "℃ and ℉, 20 °C",
    "ᴬ ᵇ superscripts ᶜ",
    "…",
    "’",
]

HTML = [
    "cats &amp; dogs",
    "cats &amp;amp; dogs",
    "cats &AMP; dogs",
    "Tom &amp Jerry",
    "AT&T and R&B",
    "&lt;b&gt;bold&lt;/b&gt;",
    "&quot;quoted&quot; &#39;ticks&#39;",
    "&#x27;hex&#x27; &#8217;curly&#8217;",
    "caf&eacute; cr&egrave;me",
    "&nbsp;padded&nbsp;",
    "&copy; 2024 &mdash; all rights",
    "&hellip; and &ndash;",
    "&unknown; entity &;",
    "<i>cats &amp; dogs</i>",
    "<b>e&#x301;</b>",
    "&#128054; puppy",
    "&Eacute;cole",
    "1 &lt; 2 &amp;&amp; 3 &gt; 2",
    "&notit; &copy",
    "&amp;#8217;",
]

MOJIBAKE = [
    "cafÃ© au lait",
    "itâ€™s broken",
    "â€œquotesâ€\x9d",
    "ItÂ’s a test",
    "schÃ¶n und grÃ¼n",
    "naÃ¯ve faÃ§ade",
    "Ð¿Ñ€Ð¸Ð²ÐµÑ‚",
    "100Â °C",
    "âœ” done",
    "Ã\xa0 la carte",
]

SPACES = [
    "  two  spaces   three  ",
    "\ttab\tseparated\t",
    "line\nbreak\r\nand return\rthere",
    "\n\n",
    "   ",
    " leading",
    "trailing ",
    "form\x0cfeed and vertical\x0btab",
    "next\x85line and\u2028separators\u2029here",
    "zero\u200bwidth\u200cjoin\u200ders",
    "\ufeffbyte order mark",
    "word\u2060joiner",
    "null\x00byte and bell\x07",
    "\x1b[31mred\x1b[0m letters",
    "unit\x1fseparator",
    "del\x7fete",
    "a .\n. b",
    "left\u200eto\u200fright marks",
    "\u202dforced\u202c order",
    "object\ufffcreplaced \ufffd",
]

LETTERS = [
    "Café Zürich, Ñandú, Ærø, Łódź",
    "cafe\u0301 with a combining accent",
    "CAFE\u0301",
    "a\u030angstro\u0308m and A\u030a",
    "İstanbul ve ISPARTA",
    "ıspanak",
    "ΟΔΥΣΣΕΥΣ and ὈΔΥΣΣΕΎΣ",
    "ΣΊΣΥΦΟΣ",
    "STRAẞE and Straße",
    "ſtraſſe with long ſ",
    "Привет, мир!",
    "ПРИВЕТ МИР",
    "ЁЛКА и ёлка, Й и й",
    "日本語のキャプション",
    "犬と猫。",
    "我喜欢猫，也喜欢狗！",
    "한국어 캡션",
    "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "مرحبا بالعالم",
    "שלום עולם",
    "שָׁלוֹם",
    "हिन्दी में एक वाक्य",
    "ภาษาไทย",
    "ქართული ᲥᲐᲠᲗᲣᲚᲘ",
    "Ḧëävÿ Mëtäl Ümläüts",
    "Dž dž Ǆ ǅ ǆ",
    "Kelvin \u212a, Ångström \u212b, Ohm \u2126",
    "Ω and ω, µ and μ",
    "𝐁𝐨𝐥𝐝 𝑖𝑡𝑎𝑙𝑖𝑐 𝔣𝔯𝔞𝔨𝔱𝔲𝔯",
    "𐐀𐐁 deseret 𐐨",
    "Việt Nam, Tiếng Việt",
    "ǅungla",
    "Þórður and ðað",
    "¼ ½ ¾ ٣ ४ 五",
    "a\u0327\u0301b",
]

EMOJI = [
    "a dog 🐶 in the snow ❄️",
    "👩🏽‍🚀 and 👨‍👩‍👧‍👦",
    "🇩🇪🇫🇷 flags",
    "thumbs 👍🏿!",
    "🐱",
    "1️⃣ 2️⃣ #️⃣",
    "❤ ❤️ ♥",
    "☀ ☂ ☃",
    "🏴󠁧󠁢󠁥󠁮󠁧󠁿 England",
    "smile:😀;",
    "✔ yes ✘ no",
    "☎️ 555-0199",
    "a👍b",
]

LONG = [
    "a dog and a cat and a bird and a fish and " * 8 + "a horse",
    "UNBREAKABLE" * 12,
    "!" * 150,
    "a, " * 70,
    "数" * 90,
    "a red star. " * 30,
]

# Words that a vocabulary keeps for itself: here they are text, for peers they steer.
MARKED = [
    "<|startoftext|>injected<|endoftext|> tokens",
    "</s> at the start",
    "an </s> in the middle",
    "<unk> <pad> <eos> <bos>",
    "<start_of_text>a<end_of_text>",
    "▁already▁marked▁",
    "a ▁ b",
]

_THINGS = ["Dog", "CAT", "red Star", "blue fish's", "“Sun”", "ﬁsh", "café", "tea & milk", "A.I.", "X-ray"]
_FRAMES = ["a photo of the {}.", "A Drawing of one {}!", "{}, isolated on white"]
FRAMED = [frame.replace("{}", thing) for frame in _FRAMES for thing in _THINGS]

STRINGS = [*PLAIN, *TYPOGRAPHY, *HTML, *MOJIBAKE, *SPACES, *LETTERS, *EMOJI, *LONG, *FRAMED]
