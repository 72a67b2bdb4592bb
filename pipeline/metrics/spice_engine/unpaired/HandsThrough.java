package unpaired;

import java.io.Reader;
import java.util.Arrays;
import java.util.List;
import javax.script.AbstractScriptEngine;
import javax.script.Bindings;
import javax.script.ScriptContext;
import javax.script.ScriptEngine;
import javax.script.ScriptEngineFactory;
import javax.script.ScriptException;
import javax.script.SimpleBindings;

/**
 * The "JavaScript" of SPICE, which asks one only to indent its JSON: puts `jsonString`, evaluates one line, gets
 * `result`. Java has had none of its own since version 15. This one gives the JSON back as it is, and refuses every
 * other program.
 *
 * HandsThrough.class beside it is made by `javac --release 8 -g:none HandsThrough.java` of Java 17: a Java
 * runtime has no compiler.
 */
public final class HandsThrough extends AbstractScriptEngine implements ScriptEngineFactory {
    private static final String KNOWN = "result = JSON.stringify(JSON.parse(jsonString), null, 2)";

    @Override
    public Object eval(String script, ScriptContext context) throws ScriptException {
        if (!script.equals(KNOWN)) {
            throw new ScriptException("no program but SPICE's own is known here");
        }
        Bindings values = context.getBindings(ScriptContext.ENGINE_SCOPE);
        values.put("result", values.get("jsonString"));
        return values.get("result");
    }

    @Override
    public Object eval(Reader reader, ScriptContext context) throws ScriptException {
        throw new ScriptException("no program but SPICE's own is known here");
    }

    @Override
    public Bindings createBindings() {
        return new SimpleBindings();
    }

    @Override
    public ScriptEngineFactory getFactory() {
        return this;
    }

    @Override
    public ScriptEngine getScriptEngine() {
        return new HandsThrough();
    }

    @Override
    public List<String> getNames() {
        return Arrays.asList("JavaScript");
    }

    @Override
    public List<String> getExtensions() {
        return Arrays.asList();
    }

    @Override
    public List<String> getMimeTypes() {
        return Arrays.asList();
    }

    @Override
    public String getEngineName() {
        return "unpaired";
    }

    @Override
    public String getEngineVersion() {
        return "1";
    }

    @Override
    public String getLanguageName() {
        return "JavaScript";
    }

    @Override
    public String getLanguageVersion() {
        return "1";
    }

    @Override
    public Object getParameter(String key) {
        return key.equals(ScriptEngine.NAME) ? "JavaScript" : null;
    }

    @Override
    public String getMethodCallSyntax(String object, String method, String... arguments) {
        throw new UnsupportedOperationException();
    }

    @Override
    public String getOutputStatement(String text) {
        throw new UnsupportedOperationException();
    }

    @Override
    public String getProgram(String... statements) {
        throw new UnsupportedOperationException();
    }
}
