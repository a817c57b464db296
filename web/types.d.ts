// fer-edge export web puts LiteRT.js into the page's folder; here it is the npm package.
declare module "*/litert/litert.js" {
  export * from "@litertjs/core";
}
