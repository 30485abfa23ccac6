"""Phrases in many languages, for the benchmark of encodings: notes of a workshop, own words."""

from typing import Final

PHRASES: Final = {
    "English": """
        The café’s pump runs at 20 °C – “no more”, says the manual. A naïve reader may skip
        § 4, but the résumé on page 3 is worth the time. The kettle costs £40, or €45 abroad.
        Don’t oil the valve while it’s warm. © The workshop, all rights reserved.
    """,
    "German": """
        Die Pumpe läuft seit dem frühen Morgen, und niemand weiß, warum sie so heiß wird. Größere
        Geräte müssen jährlich geprüft werden. Bitte öffnen Sie das Ventil nur bei abgekühltem
        Kessel. Für Schäden übernehmen wir keine Gewähr. Die Schlüssel hängen über der Tür.
    """,
    "French": """
        La pompe a été réparée hier, mais elle fuit déjà à nouveau. Les pièces détachées sont
        rangées derrière l’étagère, à côté du réservoir. Où sont passées les clés ? Le mécanicien
        est allé chercher un nouveau filtre ; il sera là après le déjeuner. Ça coûte très cher.
    """,
    "Spanish": """
        La bomba se averió anoche y mañana vendrá el técnico. ¿Dónde está la llave pequeña? Según
        el manual, el depósito se vacía cada año. El niño cerró la válvula sin querer. Después
        de la reparación, la presión volvió a su nivel habitual. ¡Cuidado con el agua caliente!
    """,
    "Portuguese": """
        A bomba não funciona desde ontem à noite. O técnico já está a caminho, mas a peça só chega
        amanhã. Não abra a válvula enquanto a água estiver quente. As instruções de manutenção
        estão na página três. A pressão é medida três vezes por dia, até à próxima inspeção.
    """,
    "Italian": """
        La pompa è ferma da ieri e nessuno sa perché. Il tecnico arriverà lunedì, così potrà
        controllare anche il serbatoio. La pressione è più alta del solito: si può già sentire
        il rumore. Non c’è più olio, ma la bottega è aperta fino a metà giornata. Costerà di più.
    """,
    "Swedish": """
        Pumpen går för fullt sedan i går kväll. Rören måste bytas före årets slut, annars blir
        det översvämning. Verkstaden ligger på andra sidan ån. Öppna aldrig ventilen när vattnet
        är varmt. Vi träffas på måndag för att gå igenom åtgärderna och beställa nya delar.
    """,
    "Danish": """
        Pumpen kører på fuld kraft, så vandet løber over. Nøglen hænger på væggen ved døren. Vi må
        bestille nye rør før året er gået. Åbn aldrig ventilen, når kedlen er varm. På næste møde
        gennemgår vi årsagen til fejlen, og hvordan vi undgår den.
    """,
    "Icelandic": """
        Dælan hefur gengið síðan í gær og enginn veit hvað veldur. Það þarf að skipta um síuna
        áður en árið er liðið. Ekki má opna lokann meðan vatnið er heitt. Verkstæðið er hinum megin
        við ána. Þrýstingurinn er mældur þrisvar á dag, og niðurstöðurnar eru skráðar í bókina.
    """,
    "Polish": """
        Pompa działa od wczoraj, ale nikt nie wie, dlaczego tak się grzeje. Części zamienne leżą
        w piwnicy za zbiornikiem. Proszę otworzyć zawór dopiero po ostygnięciu kotła. Ciśnienie
        mierzy się trzy razy dziennie. Jeżeli łożysko hałasuje, należy je nasmarować świeżym olejem.
    """,
    "Czech": """
        Čerpadlo běží od včerejška a nikdo neví, proč se tak přehřívá. Náhradní díly leží ve sklepě
        za nádrží. Ventil otevřete teprve tehdy, až kotel vychladne. Tlak se měří třikrát denně.
        Když ložisko hlučí, je třeba ho namazat čerstvým olejem a přitáhnout všechny šrouby.
    """,
    "Hungarian": """
        A szivattyú tegnap óta működik, de senki sem tudja, miért melegszik ennyire. A
        pótalkatrészek a pincében vannak, a tartály mögött. A szelepet csak akkor szabad kinyitni,
        ha a kazán már kihűlt. A nyomást naponta háromszor mérjük. A csőből víz folyik, ezért új
        tömítést rendelünk.
    """,
    "Romanian": """
        Pompa merge de ieri și nimeni nu știe de ce se încălzește atât de tare. Piesele de schimb
        sunt în pivniță, în spatele rezervorului. Deschideți supapa numai după ce s-a răcit cazanul.
        Presiunea se măsoară de trei ori pe zi. Dacă rulmentul face zgomot, trebuie uns din nou.
    """,
    "Croatian": """
        Crpka radi od jučer i nitko ne zna zašto se toliko grije. Rezervni dijelovi leže u podrumu
        iza spremnika. Ventil se smije otvoriti tek kad se kotao ohladi. Tlak se mjeri triput na
        dan. Ako ležaj šumi, treba ga podmazati svježim uljem i pritegnuti sve vijke oko kućišta.
    """,
    "Turkish": """
        Pompa dünden beri çalışıyor, ama neden bu kadar ısındığını kimse bilmiyor. Yedek parçalar
        bodrumda, deponun arkasında duruyor. Vanayı ancak kazan soğuduktan sonra açınız. Basınç
        günde üç kez ölçülür. Yatak ses çıkarırsa yağlanması ve bütün vidaların sıkılması gerekir.
    """,
    "Lithuanian": """
        Siurblys veikia nuo vakar, bet niekas nežino, kodėl jis taip kaista. Atsarginės dalys guli
        rūsyje už talpyklos. Vožtuvą atidarykite tik tada, kai katilas atvės. Slėgis matuojamas
        tris kartus per dieną. Jei guolis ūžia, jį reikia sutepti ir priveržti visus varžtus.
    """,
    "Latvian": """
        Sūknis darbojas kopš vakardienas, bet neviens nezina, kāpēc tas tā sakarst. Rezerves daļas
        ir pagrabā aiz tvertnes. Vārstu drīkst atvērt tikai tad, kad katls ir atdzisis. Spiedienu
        mēra trīs reizes dienā. Ja gultnis trokšņo, tas jāieeļļo un jāpievelk visas skrūves.
    """,
    "Estonian": """
        Pump töötab eilsest saadik, kuid keegi ei tea, miks see nii kuumaks läheb. Varuosad on
        keldris mahuti taga. Klapi tohib avada alles siis, kui katel on jahtunud. Rõhku mõõdetakse
        kolm korda päevas. Kui laager müriseb, tuleb seda õlitada ja kõik kruvid üle käia.
    """,
    "Russian": """
        Насос работает со вчерашнего дня, но никто не знает, почему он так греется. Запасные части
        лежат в подвале за баком. Открывайте клапан только после того, как котёл остынет. Давление
        измеряют три раза в день. Если подшипник шумит, его нужно смазать свежим маслом.
    """,
    "Ukrainian": """
        Насос працює від учора, але ніхто не знає, чому він так гріється. Запасні частини лежать
        у підвалі за баком. Відкривайте клапан лише після того, як котел охолоне. Тиск вимірюють
        тричі на день. Якщо підшипник шумить, його треба змастити свіжою оливою і підтягти гвинти.
    """,
    "Bulgarian": """
        Помпата работи от вчера, но никой не знае защо се нагрява толкова. Резервните части са
        в мазето зад резервоара. Отворете клапана едва след като котелът изстине. Налягането се
        измерва три пъти на ден. Ако лагерът шуми, трябва да се смаже и винтовете да се затегнат.
    """,
    "Greek": """
        Η αντλία δουλεύει από χθες, αλλά κανείς δεν ξέρει γιατί ζεσταίνεται τόσο. Τα ανταλλακτικά
        βρίσκονται στο υπόγειο, πίσω από τη δεξαμενή. Ανοίξτε τη βαλβίδα μόνο αφού κρυώσει ο
        λέβητας. Η πίεση μετριέται τρεις φορές την ημέρα. Αν το ρουλεμάν κάνει θόρυβο, θέλει λάδι.
    """,
    "Hebrew": """
        המשאבה פועלת מאתמול, אבל איש אינו יודע מדוע היא מתחממת כל כך. חלקי החילוף נמצאים במרתף
        מאחורי המכל. יש לפתוח את השסתום רק לאחר שהדוד התקרר. הלחץ נמדד שלוש פעמים ביום. אם המסב
        מרעיש, צריך לשמן אותו בשמן טרי ולהדק את כל הברגים שסביבו.
    """,
    "Arabic": """
        تعمل المضخة منذ أمس، ولكن لا أحد يعرف لماذا ترتفع حرارتها إلى هذا الحد. قطع الغيار موجودة في
        القبو خلف الخزان. لا تفتح الصمام إلا بعد أن يبرد المرجل. يقاس الضغط ثلاث مرات في اليوم. إذا
        أصدر المحمل صوتا فيجب تزييته بزيت جديد وشد جميع البراغي.
    """,
    "Thai": """
        ปั๊มน้ำทำงานมาตั้งแต่เมื่อวาน แต่ไม่มีใครรู้ว่าทำไมจึงร้อนมาก อะไหล่อยู่ในห้องใต้ดินหลังถังน้ำ
        ควรเปิดวาล์วหลังจากหม้อน้ำเย็นลงแล้วเท่านั้น วัดความดันวันละสามครั้ง ถ้าลูกปืนมีเสียงดัง
        ต้องหยอดน้ำมันใหม่และขันสกรูทุกตัวให้แน่น
    """,
    "Vietnamese": """
        Máy bơm chạy từ hôm qua, nhưng không ai biết vì sao nó nóng đến thế. Phụ tùng thay thế nằm
        dưới tầng hầm, sau bể nước. Chỉ mở van khi nồi hơi đã nguội. Áp suất được đo ba lần mỗi
        ngày. Nếu ổ trục kêu to thì phải tra dầu mới và siết chặt tất cả các ốc vít.
    """,
    "Chinese (simplified)": """
        水泵从昨天开始一直在运转，但是没有人知道它为什么这么热。备用零件放在地下室的水箱后面。
        锅炉冷却以后才能打开阀门。压力每天测量三次。如果轴承有噪音，就要加新的润滑油，并拧紧所有的螺丝。
        说明书上写着，每年应当清洗一次滤网。修理工明天上午会来检查管道。
    """,
    "Chinese (traditional)": """
        水泵從昨天開始一直在運轉，但是沒有人知道它為什麼這麼熱。備用零件放在地下室的水箱後面。
        鍋爐冷卻以後才能打開閥門。壓力每天測量三次。如果軸承有噪音，就要加新的潤滑油，並擰緊所有的螺絲。
        說明書上寫著，每年應當清洗一次濾網。修理工明天上午會來檢查管道。
    """,
    "Japanese": """
        ポンプは昨日から動いていますが、なぜこんなに熱くなるのか誰にも分かりません。交換部品は地下室の
        タンクの後ろにあります。バルブはボイラーが冷めてから開けてください。圧力は一日に三回測ります。
        軸受けから音がするときは、新しい油を差して、すべてのねじを締め直す必要があります。
    """,
    "Korean": """
        펌프는 어제부터 계속 돌아가고 있지만 왜 그렇게 뜨거워지는지 아무도 모릅니다. 예비 부품은
        지하실의 물탱크 뒤에 있습니다. 보일러가 식은 다음에만 밸브를 여십시오. 압력은 하루에 세 번
        측정합니다. 베어링에서 소리가 나면 새 기름을 치고 모든 나사를 단단히 조여야 합니다.
    """,
}
