import js from "@eslint/js";
import globals from "globals";

const strict = {
  eqeqeq: "error",
  "no-var": "error",
  "prefer-const": "error",
  "no-shadow": "error",
  "no-implicit-globals": "error",
  "no-unused-vars": ["error", { caughtErrors: "none" }],
  curly: ["error", "multi-line"],
};

export default [
  { ignores: ["page/litert/"] },
  js.configs.recommended,
  { rules: strict },
  { files: ["page/*.js"], languageOptions: { globals: globals.browser } },
  { files: ["page/worker.js"], languageOptions: { sourceType: "script", globals: globals.worker } },
  { files: ["page/sw.js"], languageOptions: { sourceType: "script", globals: globals.serviceworker } },
  {
    files: ["page/old_browser.js"],
    languageOptions: { sourceType: "script", ecmaVersion: 5 },
    rules: { "no-var": "off", "no-implicit-globals": "off" },
  },
  { files: ["tests/*.js", "*.js"], languageOptions: { globals: globals.node } },
  { files: ["page/worker.js", "page/sw.js"], rules: { "no-implicit-globals": "off" } },
];
