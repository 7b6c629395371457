import { watchFilters } from "./filters.js";
import { refreshEvery } from "./refresh.js";

watchFilters();
refreshEvery(2000);
