"""How people tell a language model to disobey, in seven languages: English, German, French, Spanish, Italian, Portuguese, Dutch.

Phrases are matched against a text's words: lower case, without accents and punctuation, one space between them (`you re now`).
`Ignore my previous instructions` is what customers say, so no phrase takes `my`.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Phrase:
    """One way to say it.

    Attributes:
        words: Every match has one of these words, so that nearly all texts are cleared without trying the pattern.
        pattern: The phrase.
    """

    words: frozenset[str]
    pattern: re.Pattern[str]


MOST_WORDS = 14
"""No phrase is longer."""


def _phrase(words: str, pattern: str) -> Phrase:
    return Phrase(frozenset(words.split()), re.compile(rf"(?<!\S)(?:{pattern})(?!\S)"))


def _any(words: str) -> str:
    return f"(?:{'|'.join(words.split())})"


def _persona(machines: str) -> str:
    """A machine, a few words later: each language has its own, for `ai` and `dan` are common words of another."""
    return rf"(?:\S+ ){{0,4}}?(?:{_any('llm bot chatbot chatgpt gpt')}|{machines})"


_NOT_ABOUT = rf"(?! {_any('for about on to regarding fur zu zur zum pour sur para sobre per su voor over')}(?!\S))"
"""`Tell me your instructions for returns` asks for what a customer may know."""

_FORGET = "ignore disregard forget override bypass"
_RULES = "instruction instructions prompt prompts rules guidelines directions directives commands context constraints"
_ENGLISH_MACHINE = _persona("ai|a i|(?:ai|language) model|assistant")
_ENGLISH = (
    _phrase(
        _FORGET,
        rf"{_any(_FORGET)} (?:{_any('all any every everything the your of these those in')} ){{0,4}}"
        rf"{_any('previous prior above earlier preceding existing initial original system foregoing former past safety')} "
        rf"(?:and \S+ )?(?:\S+ )?{_any(_RULES)}",
    ),
    _phrase(
        "ignore disregard forget",
        rf"(?:ignore|disregard|forget) (?:{_any('all any the your of these those')} ){{0,4}}{_any(_RULES)} "
        r"(?:(?:that )?you (?:were|have been|are) given|you have|given|above|before|so far|from before|and "
        r"(?:say|write|answer|do|tell))",
    ),
    _phrase(
        "above",
        rf"(?:disregard|ignore|forget) (?:{_any('all everything anything of the that is was text written said')} ){{0,4}}above"
        rf"(?! {_any('e email mail message ticket order request transaction charge payment letter note question address')}\b)"
        # What people add when they take their own words back.
        rf"(?! {_any('i it we my found sorry thank thanks problem issue sorted as because since please now')}(?!\S))",
    ),
    _phrase("told", r"(?:forget|ignore) (?:everything|all|anything) (?:that )?you(?: were| ve been| have been) told"),
    _phrase(
        "now",
        rf"you(?: are|re| re) now {_any('an a the my called playing')} {_ENGLISH_MACHINE}",
    ),
    _phrase("now", r"you(?: are|re| re) now (?:dan|free from|unrestricted|jailbroken|unfiltered|no longer bound|acting as)"),
    _phrase(
        "mode",
        rf"you(?: are|re| re)(?: now)? (?:in|entering) {_any('developer dan god debug admin unrestricted jailbreak')} mode",
    ),
    _phrase("dan", "dan mode|(?:act|respond|answer) as dan"),
    _phrase(
        "act pretend behave roleplay",
        rf"(?<!had to )(?<!have to )(?:act as|pretend to be|pretend you are|behave (?:as|like)|roleplay as) "
        rf"(?:if you were )?an? {_ENGLISH_MACHINE}",
    ),
    _phrase(
        "prompt",
        rf"{_any('your hidden secret entire initial original full reveal print show repeat leak output ignore')} "
        rf"(?:{_any('me the your this full entire hidden secret initial original above')} ){{0,3}}system prompt",
    ),
    _phrase("only", r"(?:answer|respond|reply|output) only with|only (?:answer|respond|reply|output) with"),
    _phrase(
        "follow obey",
        # Those who say it of themselves or of the staff do not tell the model.
        rf"{''.join(f'(?<!{who} )' for who in ('i', 'we', 'you', 'they', 'who', 'will', 'staff', 'people'))}"
        rf"(?:do not|don t|dont|never) (?:follow|obey) (?:{_any('any all of the your those these other')} ){{0,3}}"
        rf"(?:{_any('previous above prior system original earlier other safety further')} )?"
        r"(?:instructions|guidelines|rules|directives|system prompt)",
    ),
    _phrase(
        "your",
        rf"(?:{_any('reveal print repeat output display leak')}|(?:show|tell|give) me|what (?:are|were|is)) "
        rf"(?:all (?:of )?)?your (?:(?:exact|full|complete) )?{_any('initial original hidden secret system internal')} "
        rf"(?:instructions|prompt|guidelines|rules){_NOT_ABOUT}",
    ),
    _phrase(
        "your",
        rf"(?:{_any('reveal print repeat output display leak')}|(?:show|tell|give) me) "
        rf"(?:all (?:of )?)?your (?:instructions|prompt){_NOT_ABOUT}",
    ),
    _phrase("anything", "do anything now"),
    _phrase("jailbreak", r"jailbreak (?:prompt|mode|yourself|chatgpt|gpt|(?:the|this) (?:ai|model|assistant|bot))"),
    _phrase(
        "without",
        rf"(?:respond|answer|reply|act) without any "
        rf"{_any('restriction restrictions filter filters limitations censorship safety')}",
    ),
)

_GERMAN_MACHINE = _persona("ki|(?:sprach|ki )modell|assistent(?:in)?")
_GERMAN = (
    _phrase(
        "ignoriere ignoriert ignorieren vergiss vergesst vergessen missachte missachten",
        rf"(?:ignorier(?:e|t|en sie)|vergiss|vergesst|vergessen sie|missachten?(?: sie)?) "
        rf"(?:{_any('bitte alle jegliche samtliche saemtliche die deine ihre diese')} ){{0,3}}"
        r"(?:bisherig|vorherig|vorig|obig|vorangegangen|vorangehend|fruher|frueher|ursprunglich|urspruenglich)en? (?:system ?)?"
        rf"{_any('anweisung anweisungen instruktion instruktionen befehle vorgaben regeln anordnungen prompt prompts')}",
    ),
    _phrase(
        "bist sind",
        rf"(?:du bist|sie sind) (?:ab )?(?:jetzt|nun|sofort) (?:eine?|mein) {_GERMAN_MACHINE}",
    ),
    _phrase("systemprompt prompt", "systemprompt|(?:dein|deinen|ihr|ihren|euer|euren) system prompt"),
    _phrase("nur ausschliesslich ausschließlich", r"antworten? (?:sie )?(?:ausschlie(?:ss|ß)lich|nur) mit (?!freundlich)\S+"),
    _phrase(
        "anweisungen instruktionen systemanweisungen",
        rf"(?:zeig|zeige|verrate?|nenne?|gib|offenbare|zeigen sie|verraten sie|nennen sie)(?: mir)? (?:deine|ihre) "
        rf"(?:{_any('geheimen internen ursprunglichen')} )?(?:system)?(?:anweisungen|instruktionen){_NOT_ABOUT}",
    ),
    _phrase(
        "befolge befolgen",
        r"(?<!ich )(?<!wir )befolge(?:n sie)? (?:keine|nicht) (?:\S+ ){0,3}?(?:anweisungen|regeln|vorgaben|instruktionen)",
    ),
)

_FRENCH_MACHINE = _persona("ia|modele de langage|assistant")
_FRENCH = (
    _phrase(
        "instructions consignes directives regles",
        rf"(?:ignore[zr]?|oublie[zr]?|(?:tiens|tenez) (?:pas|aucun) compte d(?:e|es)|(?:fais|faites) "
        rf"abstraction de) (?:{_any('toutes les des tes vos ces')} ){{0,3}}"
        rf"(?:instructions|consignes|directives|regles) (?:precedentes|anterieures|ci dessus|initiales|"
        rf"systeme|donnees|du systeme|recues)",
    ),
    _phrase(
        "precedentes",
        rf"(?:ignore[zr]?|oublie[zr]?) (?:{_any('toutes les tes vos ces')} ){{0,3}}precedentes "
        rf"(?:instructions|consignes|directives)",
    ),
    _phrase(
        "maintenant desormais",
        rf"(?:tu es|vous etes) (?:maintenant|desormais) (?:une?|mon) {_FRENCH_MACHINE}",
    ),
    _phrase("systeme", "prompt systeme"),
    _phrase("reponds repondez", r"repond(?:s|ez) (?:uniquement|seulement|exclusivement) avec"),
    _phrase(
        "tes vos",
        rf"(?:revele|montre|affiche|divulgue)z?(?: moi)? (?:toutes )?(?:tes|vos) (?:instructions|consignes){_NOT_ABOUT}",
    ),
    _phrase(
        "suis suivez",
        r"ne (?:suis|suivez) pas (?:les|tes|vos|ces) (?:instructions|consignes|regles) (?:precedentes|ci dessus|systeme)",
    ),
)

_SPANISH_MACHINE = _persona("ia|modelo de lenguaje|asistente")
_SPANISH = (
    _phrase(
        "instrucciones indicaciones ordenes reglas directrices",
        rf"(?:ignor[aeo]|ignoren|ignorad|ignorar|olvid[ae]|olviden|omit[ae]|ha(?:z|ga) caso omiso de) "
        rf"(?:{_any('todas las los tus sus estas esas')} ){{0,3}}"
        rf"(?:instrucciones|indicaciones|ordenes|reglas|directrices) (?:anteriores|previas|de arriba|del "
        rf"sistema|iniciales|originales|precedentes)",
    ),
    _phrase(
        "eres",
        rf"(?:ahora eres|eres ahora|a partir de ahora eres|desde ahora eres) (?:una?|mi) {_SPANISH_MACHINE}",
    ),
    _phrase("sistema", "prompt d(?:el|e|o|i) sistema"),
    _phrase("con", r"(?:responde|responda|contesta) (?:solo|solamente|unicamente|exclusivamente) con"),
    _phrase("tus sus", rf"(?:revela|muestra|imprime|muestrame|revelame|dime) (?:todas )?(?:tus|sus) instrucciones{_NOT_ABOUT}"),
    _phrase("sigas", r"no sigas (?:las|tus|ninguna|estas) (?:\S+ ){0,2}?(?:instruccion|instrucciones|reglas)"),
)

_ITALIAN_MACHINE = _persona("ia|modello linguistico|assistente")
_ITALIAN = (
    _phrase(
        "istruzioni indicazioni direttive regole",
        rf"(?:ignora|ignori|ignorate|ignorare|dimentica|dimenticate|trascura) (?:{_any('tutte le tue vostre queste')} ){{0,3}}"
        r"(?:(?:istruzioni|indicazioni|direttive|regole) (?:precedenti|di cui sopra|sopra|iniziali|di "
        r"sistema|del sistema|originali)"
        r"|precedenti (?:istruzioni|indicazioni|direttive|regole))",
    ),
    _phrase("sei", rf"(?:ora|adesso|ora in poi) sei (?:una?|il mio) {_ITALIAN_MACHINE}"),
    _phrase("con", r"rispond[ia] (?:solo|soltanto|esclusivamente|unicamente) con"),
    _phrase("tue", rf"(?:rivela|mostra|mostrami|stampa|dimmi|rivelami) (?:tutte )?(?:le )?tue istruzioni{_NOT_ABOUT}"),
    _phrase("seguire", r"non seguire (?:le|tue|nessuna|queste) (?:\S+ ){0,2}?(?:istruzioni|istruzione|regole)"),
)

_PORTUGUESE_MACHINE = _persona("ia|modelo de linguagem|assistente")
_PORTUGUESE = (
    _phrase(
        "instrucoes orientacoes ordens regras diretrizes",
        rf"(?:ignor[ae]|ignorem|ignorar|esquec[ae]|desconsider[ae]) (?:{_any('todas as os suas tuas essas estas')} ){{0,3}}"
        rf"(?:instrucoes|orientacoes|ordens|regras|diretrizes) (?:anteriores|previas|acima|do sistema|"
        rf"iniciais|originais|precedentes)",
    ),
    _phrase(
        "agora",
        rf"(?:voce agora e|agora voce e|partir de agora voce e|agora es|es agora) (?:uma?|o meu) {_PORTUGUESE_MACHINE}",
    ),
    _phrase("com", r"respond[ae] (?:apenas|somente|so|unicamente|exclusivamente) com"),
    _phrase(
        "suas tuas", rf"(?:revele|mostre|revela|mostra|diga)(?: me)? (?:todas )?(?:as )?(?:suas|tuas) instrucoes{_NOT_ABOUT}"
    ),
    _phrase("siga sigas", r"nao sigas? (?:as|suas|tuas|nenhuma|essas) (?:\S+ ){0,2}?(?:instrucoes|instrucao|regras)"),
)

_DUTCH_MACHINE = _persona("ai|taalmodel|assistent")
_DUTCH = (
    _phrase(
        "negeer vergeet",
        rf"(?:negeer|vergeet) (?:{_any('alle al de je jouw uw deze')} "
        rf"){{0,3}}{_any('vorige eerdere bovenstaande voorgaande voorafgaande oorspronkelijke')} "
        rf"{_any('instructies aanwijzingen opdrachten regels prompt prompts')}",
    ),
    _phrase("bent", rf"(?:je|jij|u) bent (?:nu|vanaf nu) (?:een|mijn) {_DUTCH_MACHINE}"),
    _phrase("systeemprompt", "systeemprompt"),
    _phrase("antwoord", r"antwoord (?:alleen|uitsluitend|enkel|slechts) met"),
    _phrase("instructies", rf"(?:toon|onthul|geef|laat)(?: me| mij)? (?:al )?(?:je|jouw|uw) instructies{_NOT_ABOUT}"),
    _phrase("volg", r"volg (?:geen|niet) (?:\S+ ){0,3}?(?:instructies|regels|aanwijzingen)"),
)

PHRASES = (*_ENGLISH, *_GERMAN, *_FRENCH, *_SPANISH, *_ITALIAN, *_PORTUGUESE, *_DUTCH)
"""All phrases."""
