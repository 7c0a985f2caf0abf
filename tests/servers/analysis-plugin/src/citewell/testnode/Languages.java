package citewell.testnode;

import java.util.List;
import java.util.Locale;

import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.CharArraySet;
import org.apache.lucene.analysis.cjk.CJKAnalyzer;
import org.apache.lucene.analysis.de.GermanAnalyzer;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.apache.lucene.analysis.es.SpanishAnalyzer;
import org.apache.lucene.analysis.fr.FrenchAnalyzer;
import org.apache.lucene.analysis.it.ItalianAnalyzer;
import org.apache.lucene.analysis.ja.JapaneseAnalyzer;
import org.apache.lucene.analysis.ja.JapaneseTokenizer;
import org.apache.lucene.analysis.ko.KoreanAnalyzer;
import org.apache.lucene.analysis.ko.KoreanPartOfSpeechStopFilter;
import org.apache.lucene.analysis.ko.KoreanTokenizer;
import org.apache.lucene.analysis.pt.PortugueseAnalyzer;
import org.elasticsearch.plugin.Inject;
import org.elasticsearch.plugin.NamedComponent;
import org.elasticsearch.plugin.analysis.AnalyzerFactory;
import org.elasticsearch.plugin.settings.AnalysisSettings;
import org.elasticsearch.plugin.settings.ListSetting;
import org.elasticsearch.plugin.settings.StringSetting;

/** The language analyzers, under the names that Elasticsearch gives them, on the plain Lucene classes. */
public final class Languages {
    private Languages() {}

    /** What an index may set when it declares an analyzer, e.g. {"type": "english", "stopwords": ["the"]}. */
    @AnalysisSettings
    public interface Options {
        @ListSetting(path = "stopwords")
        List<String> stopwords();

        @ListSetting(path = "stem_exclusion")
        List<String> stemExclusion();

        @StringSetting(path = "mode", defaultValue = "search")
        String mode();

        @StringSetting(path = "decompound_mode", defaultValue = "discard")
        String decompoundMode();
    }

    /** What the analyzers have in common: their options, read when the index is opened. */
    abstract static class Configured implements AnalyzerFactory {
        final Options options;

        Configured(Options options) {
            this.options = options;
        }

        /** Unset: the analyzer's own set; "_none_": none; words: those. A named set is refused, not guessed. */
        final CharArraySet stopwords(CharArraySet standard) {
            List<String> words = options.stopwords();
            if (words.isEmpty()) {
                return standard;
            }
            if (words.equals(List.of("_none_"))) {
                return CharArraySet.EMPTY_SET;
            }
            for (String word : words) {
                if (word.length() > 1 && word.startsWith("_") && word.endsWith("_")) {
                    throw new IllegalArgumentException("the test plugin has no named stop word set " + word + "; list the words");
                }
            }
            return new CharArraySet(words, false);
        }

        final CharArraySet unstemmed() {
            return new CharArraySet(options.stemExclusion(), false);
        }
    }

    @NamedComponent("english")
    public static final class English extends Configured {
        @Inject
        public English(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new EnglishAnalyzer(stopwords(EnglishAnalyzer.getDefaultStopSet()), unstemmed());
        }
    }

    @NamedComponent("spanish")
    public static final class Spanish extends Configured {
        @Inject
        public Spanish(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new SpanishAnalyzer(stopwords(SpanishAnalyzer.getDefaultStopSet()), unstemmed());
        }
    }

    @NamedComponent("german")
    public static final class German extends Configured {
        @Inject
        public German(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new GermanAnalyzer(stopwords(GermanAnalyzer.getDefaultStopSet()), unstemmed());
        }
    }

    @NamedComponent("french")
    public static final class French extends Configured {
        @Inject
        public French(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new FrenchAnalyzer(stopwords(FrenchAnalyzer.getDefaultStopSet()), unstemmed());
        }
    }

    @NamedComponent("italian")
    public static final class Italian extends Configured {
        @Inject
        public Italian(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new ItalianAnalyzer(stopwords(ItalianAnalyzer.getDefaultStopSet()), unstemmed());
        }
    }

    @NamedComponent("portuguese")
    public static final class Portuguese extends Configured {
        @Inject
        public Portuguese(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new PortugueseAnalyzer(stopwords(PortugueseAnalyzer.getDefaultStopSet()), unstemmed());
        }
    }

    @NamedComponent("cjk")
    public static final class Cjk extends Configured {
        @Inject
        public Cjk(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            return new CJKAnalyzer(stopwords(CJKAnalyzer.getDefaultStopSet()));
        }
    }

    @NamedComponent("kuromoji")
    public static final class Kuromoji extends Configured {
        @Inject
        public Kuromoji(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            var mode = JapaneseTokenizer.Mode.valueOf(options.mode().toUpperCase(Locale.ROOT));
            var stopwords = stopwords(JapaneseAnalyzer.getDefaultStopSet());
            return new JapaneseAnalyzer(null, mode, stopwords, JapaneseAnalyzer.getDefaultStopTags());
        }
    }

    @NamedComponent("nori")
    public static final class Nori extends Configured {
        @Inject
        public Nori(Options options) {
            super(options);
        }

        @Override
        public Analyzer create() {
            var mode = KoreanTokenizer.DecompoundMode.valueOf(options.decompoundMode().toUpperCase(Locale.ROOT));
            return new KoreanAnalyzer(null, mode, KoreanPartOfSpeechStopFilter.DEFAULT_STOP_TAGS, false);
        }
    }
}
