import { refreshEvery } from "./refresh.js";

refreshEvery(2000);
