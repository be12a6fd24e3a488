"""The words by which captions give themselves away, and what words are compared by.

Each `Vocabulary` was tried on the captions that people wrote for AudioCaps (57,188) and Clotho (19,690) and on
AudioSet's class names: what people use for sounds ("in the foreground", "a camera clicks", "white noise") passes.
Patterns take linear time: whatever they repeat is bounded, or cannot match in two ways.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

import snowballstemmer

_MARKS = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'", "‐": "-", "‑": "-", "–": "-", "—": "-"})
# A letter of a script that puts no spaces between its words counts as a word.
_WORD = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]|\w+(?:['-]\w+)*")
_ENGLISH = """
    a an the and or but nor as at by for from in into of off on onto out over through to toward towards under
    up down with within without while when then than that this these those it its is are was were be been
    being has have had do does did can could will would may might he she his her they their them there who
    which what someone somebody one some any other another very more most much so such not no all each both
    during before after again near nearby around along across behind beside between against s
"""
STOP_WORDS = frozenset(_ENGLISH.split())
ARTICLES = frozenset({"a", "an", "the", "some", "one"})
_COUNTED = "two three four five six seven eight nine ten eleven twelve several many few couple"
NUMBER_WORDS = frozenset(_COUNTED.split())
_IRREGULAR = {
    **{"men": "man", "women": "woman", "children": "child", "people": "person", "persons": "person", "mice": "mouse"},
    **{"geese": "goose", "feet": "foot", "teeth": "tooth", "wolves": "wolf", "knives": "knife", "leaves": "leaf"},
    **{"calves": "calf", "hooves": "hoof", "oxen": "ox", "babies": "baby"},
    **{"sang": "sing", "sung": "sing", "rang": "ring", "rung": "ring", "ran": "run", "blew": "blow", "blown": "blow"},
    **{"broke": "break", "broken": "break", "spoke": "speak", "spoken": "speak", "drove": "drive", "driven": "drive"},
    **{"applause": "clap", "applauds": "clap", "applaud": "clap", "applauding": "clap", "laughter": "laugh"},
}
# Words for speech: a tag says "Speech" where a caption says that somebody talks.
SPEECH = re.compile(
    r"\b(?:speech(?:es)?|speak(?:s|ing)?|spoken?|talk(?:s|ed|ing|ative)?|says?|saying|said|tell(?:s|ing)?|told"
    r"|words|voices?|voiceovers?|narrat\w{1,6}|convers(?:es?|ed|ing|ations?)|chat(?:s|ted|ting)?"
    r"|chatter(?:s|ed|ing)?|dialogues?|monologues?|discuss(?:es|ed|ing|ions?)?|announc(?:es?|ed|ing|ers?|ements?)|whisper(?:s|ed|ing)?"
    r"|mumbl(?:es?|ed|ing)|mutter(?:s|ed|ing)?|shout(?:s|ed|ing)?|yell(?:s|ed|ing)?|lectur(?:es?|ed|ing|ers?)"
    r"|preach(?:es|ed|ing|ers?)?|interview(?:s|ed|ing|ers?)?|comment(?:s|ed|ing|ary|ators?|ates?|ating)"
    r"|utter(?:s|ed|ing|ances?)|reads? aloud|reading aloud|asks?|asking)\b"
)


@dataclass(frozen=True)
class Vocabulary:
    """Words that give something away.

    Attributes:
        found: regular expressions of lower-case words.
        passes: of phrases in which these words mean something else; they are looked at first.
    """

    found: tuple[str, ...]
    passes: tuple[str, ...] = ()
    _found: re.Pattern[str] = field(init=False, repr=False)
    _passes: re.Pattern[str] | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_found", re.compile(rf"(?<![\w-])(?:{'|'.join(self.found)})(?!\w)"))
        passes = re.compile(rf"(?<!\w)(?:{'|'.join(self.passes)})(?!\w)") if self.passes else None
        object.__setattr__(self, "_passes", passes)

    def first(self, text: str) -> str:
        """The first such words in a `plain` text, or none."""
        if self._passes:
            text = self._passes.sub("·", text)
        match = self._found.search(text)
        return match.group().strip(" ,:.!") if match else ""

    def opens(self, text: str) -> str:
        """Such words at the start of a `plain` text, or none."""
        match = self._found.match(text)
        return match.group().strip() if match else ""


@lru_cache(maxsize=64)
def plain(text: str) -> str:
    """Text in lower case, in one line, in compatibility form, with ASCII apostrophes and dashes."""
    return " ".join(unicodedata.normalize("NFKC", text).translate(_MARKS).lower().split())


def tokens(text: str) -> list[str]:
    """The words of a text, as `plain` has them."""
    return _WORD.findall(plain(text))


_STEMMERS = {
    **{"ar": "arabic", "da": "danish", "de": "german", "el": "greek", "en": "english", "": "english", "es": "spanish"},
    **{"fi": "finnish", "fr": "french", "hi": "hindi", "hu": "hungarian", "id": "indonesian", "it": "italian"},
    **{"nl": "dutch", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian"},
    **{"sv": "swedish", "tr": "turkish"},
}


@lru_cache(maxsize=1 << 14)
def stem(word: str, language: str = "en") -> str:
    """A word without its endings (Snowball), where there are rules for its language.

    English words for speech have one stem, as has a noun with its odd plural.
    """
    if language in ("", "en"):
        if SPEECH.fullmatch(word):
            return "speak"
        word = _IRREGULAR.get(word, word)
    if language not in _STEMMERS:
        return word
    return snowballstemmer.stemmer(_STEMMERS[language]).stemWord(
        word
    )  # one each time: they are not for several threads


def stems(text: str, language: str = "en") -> set[str]:
    """The stems of a text's words, without stop words and numbers."""
    words = {part for word in tokens(text) for part in word.split("-")}
    return {stem(word, language) for word in words if word not in STOP_WORDS and not word.isdigit() and len(word) < 40}


NUMBERS = Vocabulary(
    found=(
        r"per ?cent(?:age)?s?",
        r"probabilit(?:y|ies)",
        r"likelihoods?",
        r"confidence (?:scores?|levels?|values?|ratings?|of|is|at)",
        r"(?:very |with )?(?:high|higher|highest|low|lower|lowest|moderate|medium|strong) (?:confidence|certainty)",
        r"with (?:a )?scores?",
        r"scores? (?:above|below)",
        r"decibels?",
        r"(?:zero|nought|nil|oh|one|two|three|four|five|six|seven|eight|nine) point "
        r"(?:zero|nought|oh|one|two|three|four|five|six|seven|eight|nine)",
        r"(?:two|three|four|five|six|seven|eight|nine|ten|twelve|fifteen|(?:twen|thir|for|fif)ty)(?:-\w+)?[ -]"
        r"(?:seconds?|minutes?)(?: mark)?",
    ),
)

ASSISTANT_SPEAK = Vocabulary(
    found=(
        r"as an? (?:ai|a\.i\.|llm|assistant|artificial|(?:large )?language)",
        r"(?:an?|the|your) ai (?:assistant|model|system)",
        r"i(?:'m|'ll|'ve|'d)?(?! (?:love|am sam))",
        r"we (?:cannot|can't|apologi[sz]e)",
        r"sorry",
        r"unfortunately",
        r"please",
        r"let me",
        r"feel free",
        r"thank you for",
        r"(?:hope|hopefully) (?:this|that|it)",
        r"would you like",
        r"here(?:'s| is| are) (?:the|a|an|your|my|one|another|some)",
        r"based (?:up)?on",
        r"according to",
        r"as (?:requested|instructed|ordered|per|you (?:asked|requested|wish|said))",
        r"(?:ignore|ignoring|disregard|disregarding|forget|override|overrule|bypass|neglect)(?: [\w']+){0,4}"
        r" (?:instructions?|directions?|prompts?|rules?|above|previous|prior|earlier|before|everything|cues?|messages?"
        r"|guidelines?|polic(?:y|ies)|context|said|told|says?)",
        r"(?:system|user|developer|assistant|initial|hidden) (?:prompts?|messages?|instructions?|role|mode|override)",
        r"(?:previous|prior|above|earlier|following|new|these|my|your|original|secret|all)"
        r" (?:instructions?|prompts?|orders)",
        r"(?:jailbreak|jailbroken|prompt injection|injection|system prompt|chatgpt|gpt-?\d?|openai|anthropic|llm|json)",
        r"your (?:answer|task|response|reply|request|instructions?|prompt|caption|output|job|role|rules?|password)",
        r"you (?:are (?:now|an?|no longer|free|hereby|asked|required)|must|should|will now|need to|have to|can now"
        r"|asked|requested|provided|have been)",
        r"(?:write|print|respond|reply|emit) (?:an?|the|with|only|in|exactly|this|that|as|to|nothing|me|instead|it)",
        r"(?:output|answer|return) (?:an?|with|only|in|exactly|this|that|as|nothing|me|instead)",
        r"(?:say|repeat|reveal|translate|summari[sz]e|describe|imagine|pretend|remember)"
        r" (?:that|the|this|your|all|everything|you|exactly|only|after|to be|what|following)",
        r"(?:do not|don't|never) (?:follow|mention|write|describe|say|answer|reply|obey|trust|use|tell|include)",
        r"instead of (?:a|the|your|describing|writing)(?: \w+)? ?(?:caption|answer|sentence|describing|writing)",
        r"(?:this|my|following) (?:sentence|answer|response|output|description|reply|request)",
        r"(?:given|provided|supplied|following|available) (?:cues?|text|information|data|input|context|audio|sounds?)",
        r"(?:not enough|insufficient|no|without)(?: \w+)? (?:information|cues?|details?|evidence|description)",
        r"(?:cannot|can't|could not|couldn't|impossible to|unable to) (?:be )?(?:determined?|tell|described?|say"
        r"|identif(?:y|ied)|caption|write|comply|assist|help|know|generate|provide)",
        r"(?:click|tap) (?:here|the link|on the link|below)",
        r"(?:visit|subscribe|download|follow|buy|call|contact|email|send) (?:to |from )?(?:our|us|my|me|now|here)",
        r"(?:lorem ipsum|placeholder|n/a|to be determined|none|null|undefined|nan|todo|tbd)[ .!]*$",
        r"(?:api|access|secret) keys?",
    ),
    passes=(r"(?:world )?war i", r"(?:none|nothing) (?:of|but)", r"follows? (?:it|her|him|them)"),
)
# Talk to whoever hears the clip, which a question may be.
TO_A_LISTENER = Vocabulary(
    found=(
        r"(?:you|we|one|listeners?|the (?:listener|audience))(?:'ll)? (?:(?:can|could|may|might|will|would|are) )?"
        r"(?:\w+ly |also |now |still |even )?hear(?:s|ing)?",
        r"if (?:you|one) listens?",
    ),
)
# How an answer opens that is more than a caption.
OPENING = Vocabulary(
    found=(
        r"(?:sure|certainly|of course|okay|ok|alright|absolutely|got it|understood|yes|no|note|great question"
        r"|happy to help) ?[,!:.-]",
        r"(?:caption|sentence|answer|output|response|assistant|system|user|human|ai|bot|model|developer|tool|function"
        r"|instruction|summary|description|result|final|sound|sounds|audio|speaker \d|text|event|events|transcript|note"
        r"|warning|important|attention|reminder|admin|root|title|abstained)(?: \w+)? ?:",
        r"(?:listen(?: closely| carefully)?(?: to)?|notice|note (?:how|that|the)|close your eyes|dear listeners?|let's"
        r"|enjoy|envision|imagine)(?! dragons)",
    ),
)

CUE_SPEAK = Vocabulary(
    found=(
        r"label(?:s|l?ed|l?ing)?",
        r"images?",
        r"pictures?",
        r"pictured",
        r"photo(?:s|graphs?|graphed)?",
        r"videos?",
        r"footage",
        r"screenshots?",
        r"thumbnails?",
        r"clips?",
        r"(?:this|each|every|single|video|middle|still|first|last|next) frames?",
        r"(?:in|of|out of|into|on) frame",
        r"captions?",
        r"captioned",
        r"subtitles?",
        r"tagged",
        r"(?:audio|sound|image|dataset|main|cue|by|from|these|following) (?:the )?tags?",
        r"tags? (?:says?|indicates?|suggests?|shows?|lists?|includes?|like)",
        r"detect(?:s|ed|ing|ion|ions|able)?",
        r"models?",
        r"cues?",
        r"recordings?",
        r"recorded (?:by|on|with|in|at|from|as)",
        r"(?:is|was|are|were|being|been) recorded",
        r"transcri(?:pts?|bed|bes|ptions?)",
        r"classifi(?:ed|er|ers|es|cation)",
        r"data ?sets?",
        r"metadata",
        r"annotat(?:ed|es|ion|ions|or|ors)",
        r"spectrograms?",
        r"timestamps?",
        r"predict(?:ed|ion|ions|s)",
        r"(?:recogni[sz]ed|identified|categori[sz]ed) as",
        r"(?:speech|object|image) recognition",
        r"audio (?:samples?|segments?|files?|tracks?|content|analysis|tagger)",
        r"(?:this|the) audio (?:contains?|features?|captures?|includes?|consists?|suggests?|begins?|starts?|is)",
        r"(?:the )?presence of",
    ),
    passes=(
        r"clip[ -]?clop\w*",
        r"(?:hair|nails?|paper|binder|bulldog|belt|metal|bicycle|toe|ammo|ammunition) ?-?clips?",
        r"clips? (?:on|onto|off|hair|nails?|together|shut|closed|into|at|away|hedges?|grass|branches|wings)",
        r"video ?-?(?:games?|gam\w{1,4}|arcades?|cameras?|calls?|players?|recorders?|cassettes?|tapes?)",
        r"(?:music|play\w{0,3}(?: an?)?) videos?",
        r"(?:tak\w{1,3}|took|snap\w{0,4}|shoot\w{0,3}|draw\w{0,3})(?: \w+){0,2}"
        r" (?:pictures?|photos?|photographs?|images?)",
        r"(?:pictures?|photos?|photographs?)(?: \w+)? (?:taken|snapped|drawn|hung|hang\w{0,3}|falls?)",
        r"(?:picture|photo) (?:frames?|booths?|shoots?|cameras?|albums?|books?|clicks?|hooks?)",
        r"(?:motion) pictures?",
        r"label (?:makers?|printers?|machines?|guns?)",
        r"(?:record) labels?",
        r"(?:dog|name|price|metal|ear|collar|security|laser|luggage) tags?",
        r"model (?:trains?|railways?|railroads?|(?:air|aero)?planes?|aircraft|helicopters?|cars?|boats?|engines?"
        r"|tractors?|rockets?|steam \w+|locomotives?|racing)",
        r"cue (?:balls?|sticks?|tips?)",
        r"(?:pool|snooker|billiards?) cues?",
        r"on cue",
        r"(?:metal|smoke|gas|motion|fire|carbon monoxide) detect(?:or|ors|ion|ing)",
        r"field recordings?",
        r"recording (?:studios?|booths?|light)",
        r"(?:voice|tape|phone|telephone|answering machine) recordings?",
    ),
)

_COLOUR = (
    r"(?:(?:dark|light|bright|pale|deep|off|jet|navy|sky|lime)[ -])?(?:red|green|blue|yellow|purple|violet|pink"
    r"|brown|black|white|gr[ae]y|beige|turquoise|golden|crimson|scarlet|maroon|magenta|teal)"
)
COLOURS = Vocabulary(
    found=(
        _COLOUR,
        r"\w{3,12}-colou?red",
        r"(?:multi-?)?colou?red",
        r"colou?rs?",
        r"(?:redd|green|blu|yellow|brown|whit|grey|gray|pink|black)ish",
        r"orange (?:vests?|shirts?|t-shirts?|jackets?|cars?|trucks?|bus(?:es)?|hats?|dress|boats?|cats?|lights?|sky"
        r"|sunsets?|uniforms?|glow|flames?|fish|kayaks?|lifejackets?)",
        r"(?:blonde?|brunette)(?:[ -]haired)?",
    ),
    passes=(
        r"(?:white|pink|brown|red|gr[ae]y|blue|violet|purple|black|green|colou?red)(?: air)? ?-?(?:noises?|static)",
        r"white[ -]?waters?",
        r"blue[ -]?(?:jays?|whales?|birds?|tits?|grass|bottles?)",
        r"black[ -]?(?:birds?|bears?|caps?|metal|powder|grouse|cockatoos?)",
        r"(?:brown|polar) bears?",
        r"red[ -]?(?:fox(?:es)?|squirrels?|deer|wol(?:f|ves)|kites?|panda|alert)",
        r"(?:red|yellow|white|black|blue|green)-(?:winged|tailed|throated|headed|breasted|billed|eyed|capped|bellied|crowned)",
        r"golden (?:retrievers?|eagles?|orioles?|plovers?)",
        r"gr[ae]y (?:wol(?:f|ves)|seals?|parrots?|whales?|geese|tree ?frogs?|squirrels?)",
        r"white[ -]?(?:board|storks?|geese)",
        r"green[ -]?house",
    ),
)

_CLOTHES = (
    r"(?:t-)?(?:shirts?|hats?|dress|suits?|uniforms?|jackets?|coats?|sweaters?|vests?|hoodies?|jeans|costumes?|glasses)"
)
INAUDIBLE = Vocabulary(
    found=(
        r"(?:in)?visibl[ey]",
        r"(?:can be |be |are |is )?seen",
        r"sees(?! (?:if|what|who|whether))",
        r"wear(?:s|ing)",
        r"dressed",
        r"(?:in|with) (?:an?|his|her|their|the|matching) (?:\w+ ){0,2}" + _CLOTHES,
        r"sunglasses",
        r"looks",
        r"looking (?:at|up|down|into|towards?|on|out|happy|sad|away|directly)",
        r"smil(?:es?|ed|ing)",
        r"frown(?:s|ing)",
        r"grin(?:s|ning)",
        r"star(?:es|ing)",
        r"gaz(?:es?|ing)",
        r"pos(?:es?|ed|ing) (?:for|in|with|on|next|together)",
        r"posing",
        r"(?:at|to|towards?|into|facing) the camera",
        r"(?:comes?|coming|came) into view",
        r"(?:in|out of) (?:plain |full )?(?:view|focus)",
        r"(?:a|an|the|scenic|panoramic|aerial|front|rear|side|close-up) view of",
        r"close-?ups?",
        r"colou?rful(?:ly)?",
        r"vivid",
        r"blur(?:ry|red)",
        r"(?:dimly|brightly|softly|well)[ -]lit",
        r"illuminat(?:ed|es|ing)",
        r"silhouett(?:es?|ed)",
        r"sunny",
        r"sunlit",
        r"sun(?:light|set|sets|rise|shine)",
        r"(?:cloudy|overcast|starry|clear|blue)(?: \w+)? sk(?:y|ies)",
        r"cloudy",
        r"overcast",
        r"shadows?",
        r"shiny",
        r"logos?",
        r"portraits?",
        r"depict(?:s|ed|ing)?",
        r"portray(?:s|ed|ing)?",
        r"(?:is|are) (?:shown|pictured|displayed)",
        r"(?:long|short|curly|blonde?|dark|gr[ae]y|white) ?-?hair(?:ed)?",
        r"beard(?:ed)?",
        r"tattoo(?:s|ed)",
        r"(?:striped|spotted|furry|fluffy|uniformed|costumed|hooded|shirtless)",
        r"moustaches?",
        r"mustaches?",
        r"graffiti",
        r"(?:tall|slim|slender|handsome|beautiful|pretty|good-looking)"
        r" (?:m[ae]n|wom[ae]n|girls?|boys?|persons?|people)",
        r"(?:near|next to|beside|past|by|behind|around|between|in front of) (?:an? |the |some |several )?parked",
        r"(?:on|off) (?:a (?:\w+ )?)?leash",
        r"leashed",
        r"in the dark(?=$|[.,;:]| (?:and|as|at|by|near|on|outside|then|under|while|with)\b)",
        r"(?:total |complete |utter )?darkness",
        r"dark (?:alleys?|rooms?|streets?|corridors?|hallways?)",
        r"(?:day|candle|lamp)light",
        r"moon(?:lit|light(?! sonata))",
        r"the sun (?:shines|sets|rises)",
        r"under (?:the )?street ?(?:lights|lamps)",
        r"(?:bright|flashing|glowing|dim|harsh) (?:lights?|suns?|skies|sky)",
        r"(?:under|beneath|below|beside|behind|next to|in front of) (?:an?|the) (?:\w+ ){0,2}"
        r"(?:signs?|posters?|billboards?|banners?|paintings?|murals?)(?! (?:that|which|\w+ing)\b)",
        r"(?:with|near|beside) (?:\w+ )?flowers",
        r"picturesque",
        r"on[ -](?:the )?screen",
        r"text (?:on|reads?|reading|saying|overlay|that says)",
        r"signs? (?:reads?|reading|saying|says?|that says)",
        r"nod(?:s|ding)",
        r"gestur(?:es?|ing)",
        r"(?:background|foreground) (?:shows?|features?|is (?:white|dark|plain|blurry))",
    ),
    passes=(
        # What is worn may be heard at every step.
        r"wear(?:s|ing)(?: [\w-]+){0,3} (?:heels?|boots?|shoes?|slippers?|sandals?|flip[ -]?flops?|clogs?|spurs|skates?"
        r"|skis|cleats|heeled|sneakers|bells?|headphones?|microphones?|masks?)",
        r"wear(?:s|ing) (?:down|off|out|thin|away)",
        r"short hair ?cut",
        r"(?:spotted|striped|hooded)"
        r" (?:hyenas?|owls?|owlets?|doves?|eagles?|seals?|deer|frogs?|crickets?|skunks?|crows?)",
        r"(?:taps?|tapping|touch\w{0,3}|swip\w{1,3}) on (?:a |the )?screen",
        r"(?:turn\w{0,3}|pull\w{0,3}|zip\w{0,4}|unzip\w{0,4}|fold\w{0,3}|tear\w{0,3}|rip\w{0,4})(?: \w+){1,3} "
        + _CLOTHES,
        r"(?:drinks?|liquid|ice|spoons?|water|bubbles?|wine|beer|clink\w{0,3}|poured?|pouring|straws?)"
        r" (?:in|with|into)(?: \w+){1,2} glasses",
    ),
)

_MOOD = (
    r"(?:atmospher(?:e|es|ic)|ambi[ae]nces?|moods?|sound ?scapes?|vibes?|feel|feelings?|backdrops?|symphony|symphonies"
    r"|tapestry|aura|experience|impression|tension)"
)
_PLACE = r"(?:environments?|settings?|scenes?)"
_MAKES = (
    r"(?:creat|mak|form|generat|produc|establish|provid|set|build|convey|lend|giv|bring|craft|weav|paint|offer|blend"
    r"|suggest|impart|infus)(?:s|es|e|ed|ing|ting)?(?: (?:to|into|in|for))?"
)
BOILERPLATE = Vocabulary(
    found=(
        _MAKES + r"(?: (?:an?|the|its|their))?(?: [\w'-]+,?){0,4} " + _MOOD,
        _MAKES + r" (?:an?|the|its|their)(?: [\w'-]+,?){1,3} " + _PLACE + r"(?! (?:like|of))",
        r"add(?:s|ing) (?:to|depth|texture|life|richness|rhythm)(?! (?:an?|some|\w+ ingredients?))",
        r"add(?:s|ing) (?:an?|the) (?:\w+ ){0,2}(?:touch|sense|layer|element|hint|feel|air|charm|dimension|backdrop)",
        r"contribut(?:es?|ed|ing) to",
        r"fill(?:s|ed|ing)? the (?:air|atmosphere|space|silence|night|scene)",
        r"permeat(?:es?|ed|ing)",
        r"(?:a|the|with a|some) (?:\w+ )?sense of",
        r"evok(?:es?|ed|ing|ative)",
        r"reminiscent of",
        r"(?:a|the|an) (?:[\w'-]+ ){0,3}(?:atmosphere|soundscape|mood|tapestry)",
        r"symphony of",
        r"sets? the (?:scene|tone|mood|stage)",
        r"(?:hustle|hub) (?:and|of) (?:bustle|activity)",
        r"immers(?:es?|ed|ing|ive)",
        r"captur(?:es?|ed|ing) the",
        r"(?:suggest|imply|implie|hint|indicat)(?:s|es|ed|ing)? (?:that|an?|at|the (?:scene|setting|possibility))",
    ),
    passes=(
        r"(?:set|sets|setting) (?:\w+ ){0,3}(?:table|down|up|off|fire)",
        r"(?:into|in|from|through|to) the atmosphere",
        r"capture the flag",
        r"indoor environments?|outdoor environments?",
    ),
)
