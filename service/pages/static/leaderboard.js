import { watchFilters } from "./filters.js";

watchFilters();
