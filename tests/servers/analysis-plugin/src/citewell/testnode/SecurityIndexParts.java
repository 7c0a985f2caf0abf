package citewell.testnode;

import java.io.IOException;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.regex.Pattern;

import org.apache.lucene.analysis.TokenFilter;
import org.apache.lucene.analysis.TokenStream;
import org.apache.lucene.analysis.Tokenizer;
import org.apache.lucene.analysis.email.UAX29URLEmailTokenizer;
import org.apache.lucene.analysis.pattern.PatternCaptureGroupTokenFilter;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.analysis.tokenattributes.PositionIncrementAttribute;
import org.elasticsearch.plugin.Inject;
import org.elasticsearch.plugin.NamedComponent;
import org.elasticsearch.plugin.analysis.TokenFilterFactory;
import org.elasticsearch.plugin.analysis.TokenizerFactory;
import org.elasticsearch.plugin.settings.AnalysisSettings;
import org.elasticsearch.plugin.settings.BooleanSetting;
import org.elasticsearch.plugin.settings.ListSetting;

/**
 * What the system index .security-7 asks of analysis-common: without these three no API key, native user or
 * password can be stored ("Unknown filter type [pattern_capture] for [email]").
 */
public final class SecurityIndexParts {
    private SecurityIndexParts() {}

    @AnalysisSettings
    public interface CaptureOptions {
        @ListSetting(path = "patterns")
        List<String> patterns();

        @BooleanSetting(path = "preserve_original", defaultValue = true)
        boolean preserveOriginal();
    }

    @NamedComponent("pattern_capture")
    public static final class PatternCapture implements TokenFilterFactory {
        private final boolean keep;
        private final Pattern[] patterns;

        @Inject
        public PatternCapture(CaptureOptions options) {
            keep = options.preserveOriginal();
            patterns = options.patterns().stream().map(Pattern::compile).toArray(Pattern[]::new);
        }

        @Override
        public TokenStream create(TokenStream in) {
            return new PatternCaptureGroupTokenFilter(in, keep, patterns);
        }
    }

    @NamedComponent("uax_url_email")
    public static final class UrlEmail implements TokenizerFactory {
        @Override
        public Tokenizer create() {
            return new UAX29URLEmailTokenizer();
        }
    }

    /** Drops every token whose text was seen before in the same field value. */
    @NamedComponent("unique")
    public static final class Unique implements TokenFilterFactory {
        @Override
        public TokenStream create(TokenStream in) {
            return new Filter(in);
        }

        private static final class Filter extends TokenFilter {
            private final CharTermAttribute term = addAttribute(CharTermAttribute.class);
            private final PositionIncrementAttribute inc = addAttribute(PositionIncrementAttribute.class);
            private final Set<String> seen = new HashSet<>();

            Filter(TokenStream in) {
                super(in);
            }

            @Override
            public boolean incrementToken() throws IOException {
                int skipped = 0;
                while (input.incrementToken()) {
                    if (seen.add(term.toString())) {
                        inc.setPositionIncrement(inc.getPositionIncrement() + skipped);
                        return true;
                    }
                    skipped += inc.getPositionIncrement();
                }
                return false;
            }

            @Override
            public void reset() throws IOException {
                super.reset();
                seen.clear();
            }
        }
    }
}
