// The API's description by Swagger UI. What is tried there is asked with the page's own sign-in, or the key that is given.
"use strict";

SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#api",
  deepLinking: true,
  displayRequestDuration: true,
  persistAuthorization: false, // a key is not left behind in the browser
  validatorUrl: null, // nothing is sent to Swagger's own server
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
});
