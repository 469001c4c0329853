BEGIN TRANSACTION;
CREATE TABLE artifact (
	id INTEGER NOT NULL, 
	episode_id VARCHAR(12) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	path TEXT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	bytes BIGINT NOT NULL, 
	meta JSON, 
	CONSTRAINT pk_artifact PRIMARY KEY (id), 
	CONSTRAINT fk_artifact_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "artifact" VALUES(1,'1e1bdb60ce64','sample-queries','v2.db.artifacts/1e1bdb60ce64/sample.png','c33c8ebfac22be701bfcbf21471323bbecec6a834387f5065d3d09722bd547a1',8022,'{"queries_used":[128,256,384,500],"columns":16}');
INSERT INTO "artifact" VALUES(2,'e2f301840be1','sample-queries','v2.db.artifacts/e2f301840be1/sample.png','f910fcc57f8c4bd305d8b4f1986aad1f3b292e752df3e6d2e7157cf2c907ea57',8066,'{"queries_used":[128,256,384,500],"columns":16}');
INSERT INTO "artifact" VALUES(3,'9ce3f0bc550d','sample-queries','v2.db.artifacts/9ce3f0bc550d/sample.png','8c9b1b030fba111d617948cef2dddf24a53d6117b1c350c501baa60bbf0dd4ec',5282,'{"queries_used":[165,300,400,500],"columns":16}');
INSERT INTO "artifact" VALUES(4,'577f639623c2','sample-queries','v2.db.artifacts/577f639623c2/sample.png','f87e2e45f9fc9bbd7a727db0b7d392f88ec7a4d5e7aeb741ca5a932953a051d2',5237,'{"queries_used":[165,300,400,500],"columns":16}');
CREATE TABLE checkpoint (
	episode_id VARCHAR(12) NOT NULL, 
	"index" INTEGER NOT NULL, 
	queries_used BIGINT NOT NULL, 
	clone_accuracy DOUBLE, 
	clone_fidelity DOUBLE, 
	wall_seconds DOUBLE, 
	metrics JSON, 
	CONSTRAINT pk_checkpoint PRIMARY KEY (episode_id, "index"), 
	CONSTRAINT fk_checkpoint_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "checkpoint" VALUES('1e1bdb60ce64',0,128,6.66666666666666657414e-02,4.33333333333333348136e-02,3.91502507000041077844e-01,'{}');
INSERT INTO "checkpoint" VALUES('1e1bdb60ce64',1,256,5.16666666666666662965e-02,0.065,3.02746870199985096405e+00,'{}');
INSERT INTO "checkpoint" VALUES('1e1bdb60ce64',2,384,8.66666666666666696272e-02,4.01666666666666671847e-01,3.57053924399997413274e+00,'{}');
INSERT INTO "checkpoint" VALUES('1e1bdb60ce64',3,500,8.66666666666666696272e-02,3.71666666666666645202e-01,4.02864743899999666609e+00,'{}');
INSERT INTO "checkpoint" VALUES('e2f301840be1',0,128,1.41666666666666662965e-01,2.28333333333333332593e-01,2.35116571499997917271e+00,'{}');
INSERT INTO "checkpoint" VALUES('e2f301840be1',1,256,0.14,3.03333333333333343695e-01,3.25871586500011289899e+00,'{}');
INSERT INTO "checkpoint" VALUES('e2f301840be1',2,384,0.135,3.3833333333333331927e-01,4.77422301199999310483e+00,'{}');
INSERT INTO "checkpoint" VALUES('e2f301840be1',3,500,0.045,1.66666666666666657414e-01,6.94214891900014663406e+00,'{}');
INSERT INTO "checkpoint" VALUES('9ce3f0bc550d',0,165,0.07,4.33333333333333348136e-02,4.6694132929999341286e+00,'{}');
INSERT INTO "checkpoint" VALUES('9ce3f0bc550d',1,300,0.07,4.33333333333333348136e-02,5.28810846599981232429e+00,'{}');
INSERT INTO "checkpoint" VALUES('9ce3f0bc550d',2,400,0.07,4.33333333333333348136e-02,7.24142625799981942691e+00,'{}');
INSERT INTO "checkpoint" VALUES('9ce3f0bc550d',3,500,0.045,1.63333333333333330372e-01,2.02132872069998938959e+01,'{"exits":1.0,"repeats":2.0}');
INSERT INTO "checkpoint" VALUES('577f639623c2',0,165,1.38333333333333335923e-01,0.195,4.92338243299991518142e+00,'{}');
INSERT INTO "checkpoint" VALUES('577f639623c2',1,300,1.38333333333333335923e-01,0.195,6.25139698099997076496e+00,'{}');
INSERT INTO "checkpoint" VALUES('577f639623c2',2,400,1.38333333333333335923e-01,0.195,8.05452155899979516107e+00,'{}');
INSERT INTO "checkpoint" VALUES('577f639623c2',3,500,1.06666666666666673513e-01,2.71666666666666667406e-01,2.42731693209998411475e+01,'{"exits":1.0,"repeats":2.0}');
CREATE TABLE episode (
	id VARCHAR(12) NOT NULL, 
	run_id VARCHAR(12) NOT NULL, 
	scenario_name VARCHAR(255) NOT NULL, 
	kind VARCHAR(255) NOT NULL, 
	seed BIGINT NOT NULL, 
	attacker VARCHAR(255) NOT NULL, 
	defender VARCHAR(255) NOT NULL, 
	victim VARCHAR(255) NOT NULL, 
	clone VARCHAR(255) NOT NULL, 
	data VARCHAR(255) NOT NULL, 
	status VARCHAR(255) NOT NULL, 
	error TEXT, 
	started DATETIME NOT NULL, 
	finished DATETIME, 
	wall_seconds DOUBLE, 
	budget BIGINT, 
	queries_used BIGINT, 
	attack_answered BIGINT, 
	benign_answered BIGINT, 
	clone_accuracy DOUBLE, 
	clone_fidelity DOUBLE, 
	victim_accuracy DOUBLE, 
	served_accuracy DOUBLE, 
	served_agreement DOUBLE, 
	distortion_mean DOUBLE, 
	distortion_p95 DOUBLE, 
	attack_macs_mean DOUBLE, 
	benign_macs_mean DOUBLE, 
	full_macs BIGINT, 
	attack_compute_share DOUBLE, 
	benign_compute_share DOUBLE, 
	attack_seconds_mean DOUBLE, 
	benign_seconds_mean DOUBLE, 
	energy_joules DOUBLE, 
	harden_seconds DOUBLE, 
	query_digest VARCHAR(255), 
	answer_digest VARCHAR(255), 
	pid BIGINT NOT NULL, 
	host VARCHAR(255) NOT NULL, 
	process_started DOUBLE NOT NULL, 
	device VARCHAR(255), 
	git_commit VARCHAR(255), 
	versions JSON, 
	plan_hash VARCHAR(255) NOT NULL, 
	attacker_params JSON, 
	defender_params JSON, 
	"plan" JSON, 
	CONSTRAINT pk_episode PRIMARY KEY (id), 
	CONSTRAINT fk_episode_run_id_run FOREIGN KEY(run_id) REFERENCES run (id) ON DELETE CASCADE
);
INSERT INTO "episode" VALUES('1e1bdb60ce64','7e15cd0ee24f','tiny','play',0,'noise','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:58:12.999979','2026-11-26 00:58:32.270650',1.92687410190001173759e+01,500,500,500,166,8.66666666666666696272e-02,3.71666666666666645202e-01,0.36,0.36,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,1.2721824539994486692e-03,4.53301057228896152329e-03,NULL,4.25165509998350898968e-02,'e2af15ee57215b92','b9ea3ed9a1f1585a',14310,'elsewhere',1795654679.44,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1","torch-threads":"2"}','b8d1d89231d81e88','{"batch":null,"clone_rate":null,"loss":"auto"}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":0,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"noise","params":{"batch":null,"clone_rate":null,"loss":"auto"},"code":"","name":"noise"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests","after":"","lesson":{}}');
INSERT INTO "episode" VALUES('e2f301840be1','7e15cd0ee24f','tiny','play',1,'noise','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:58:32.328672','2026-11-26 00:58:41.589461',9.26005349799993382475e+00,500,500,500,166,0.045,1.66666666666666657414e-01,0.25,0.25,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,3.77031812200038975863e-03,7.44028161445894724301e-03,NULL,3.95407749999776569893e-02,'35bd92696494adcb','585f4c49cd3d40ec',14310,'elsewhere',1795654679.44,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1","torch-threads":"2"}','f97fb8db22faa82c','{"batch":null,"clone_rate":null,"loss":"auto"}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":1,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"noise","params":{"batch":null,"clone_rate":null,"loss":"auto"},"code":"","name":"noise"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests","after":"","lesson":{}}');
INSERT INTO "episode" VALUES('9ce3f0bc550d','7e15cd0ee24f','tiny','play',0,'exit-timing','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:58:41.611801','2026-11-26 00:59:02.814585',2.12019473969999125992e+01,500,500,500,166,0.045,1.63333333333333330372e-01,0.36,0.36,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,3.53728396000087741066e-03,9.42882669879503698684e-03,NULL,2.87710340001012809807e-02,'03d31f7f362cd0f3','6a4abc08cdf76919',14310,'elsewhere',1795654679.44,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1","torch-threads":"2"}','7c7a73c6004e38d4','{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":0,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"exit-timing","params":{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000},"code":"","name":"exit-timing"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests","after":"","lesson":{}}');
INSERT INTO "episode" VALUES('577f639623c2','7e15cd0ee24f','tiny','play',1,'exit-timing','undefended','conv-small','mlp-small','digits','success',NULL,'2026-11-26 00:59:02.861649','2026-11-26 00:59:27.944703',2.50822838110000247971e+01,500,500,500,166,1.06666666666666673513e-01,2.71666666666666667406e-01,0.25,0.25,1.0,0.0,0.0,116352.0,116352.0,116352,1.0,1.0,3.99473352600080051921e-03,1.03076767831327235913e-02,NULL,6.99256440000226575648e-02,'fdcea17e69aad195','a233a65cc8de90db',14310,'elsewhere',1795654679.44,'cpu',NULL,'{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1","torch-threads":"2"}','7863f0decadf9140','{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000}','{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]}','{"rules":1,"seed":1,"data":{"use":"digits","params":{},"root":null,"download":false},"victim":{"use":"conv-small","params":{},"recipe":{"epochs":1},"seed":null},"clone":{"use":"mlp-small","params":{}},"threat":{"budget":500,"labels":"soft","latency":"virtual","pool":null},"latency":{},"traffic":{"benign":0.25,"ood_share":0.0,"ood":null,"clients":1},"attacker":{"use":"exit-timing","params":{"deepest_only":false,"hardware":null,"least_confidence":0.6,"most_probes":20000},"code":"","name":"exit-timing"},"defender":{"name":"undefended","use":"static","policy":{"post":0,"strength":1.0},"code":"","defence":[{"use":"undefended","params":{},"code":""}]},"checkpoints":4,"record":"digests","after":"","lesson":{}}');
CREATE TABLE event (
	id INTEGER NOT NULL, 
	episode_id VARCHAR(12), 
	time DATETIME NOT NULL, 
	queries_used BIGINT, 
	kind VARCHAR(255) NOT NULL, 
	message TEXT NOT NULL, 
	data JSON, 
	CONSTRAINT pk_event PRIMARY KEY (id), 
	CONSTRAINT fk_event_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
CREATE TABLE inference (
	id INTEGER NOT NULL, 
	episode_id VARCHAR(12) NOT NULL, 
	attribute VARCHAR(255) NOT NULL, 
	inferred JSON, 
	truth JSON, 
	correct BOOLEAN, 
	confidence DOUBLE, 
	CONSTRAINT pk_inference PRIMARY KEY (id), 
	CONSTRAINT fk_inference_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "inference" VALUES(1,'9ce3f0bc550d','family',NULL,'"cnn"',NULL,NULL);
INSERT INTO "inference" VALUES(2,'9ce3f0bc550d','architecture',NULL,'"conv-small"',NULL,NULL);
INSERT INTO "inference" VALUES(3,'9ce3f0bc550d','depth',NULL,4,NULL,NULL);
INSERT INTO "inference" VALUES(4,'9ce3f0bc550d','width',NULL,16,NULL,NULL);
INSERT INTO "inference" VALUES(5,'9ce3f0bc550d','exits_visited',NULL,NULL,NULL,NULL);
INSERT INTO "inference" VALUES(6,'9ce3f0bc550d','exits',NULL,1,NULL,NULL);
INSERT INTO "inference" VALUES(7,'9ce3f0bc550d','exit_costs',NULL,'[1.0]',NULL,NULL);
INSERT INTO "inference" VALUES(8,'9ce3f0bc550d','thresholds',NULL,NULL,NULL,NULL);
INSERT INTO "inference" VALUES(9,'577f639623c2','family',NULL,'"cnn"',NULL,NULL);
INSERT INTO "inference" VALUES(10,'577f639623c2','architecture',NULL,'"conv-small"',NULL,NULL);
INSERT INTO "inference" VALUES(11,'577f639623c2','depth',NULL,4,NULL,NULL);
INSERT INTO "inference" VALUES(12,'577f639623c2','width',NULL,16,NULL,NULL);
INSERT INTO "inference" VALUES(13,'577f639623c2','exits_visited',1,NULL,NULL,1.0);
INSERT INTO "inference" VALUES(14,'577f639623c2','exits',NULL,1,NULL,NULL);
INSERT INTO "inference" VALUES(15,'577f639623c2','exit_costs',NULL,'[1.0]',NULL,NULL);
INSERT INTO "inference" VALUES(16,'577f639623c2','thresholds',NULL,NULL,NULL,NULL);
CREATE TABLE log_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT log_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "log_version" VALUES('0002');
CREATE TABLE round (
	episode_id VARCHAR(12) NOT NULL, 
	bucket INTEGER NOT NULL, 
	first_round BIGINT NOT NULL, 
	rounds BIGINT NOT NULL, 
	attack_answered BIGINT NOT NULL, 
	benign_answered BIGINT NOT NULL, 
	queries_used BIGINT NOT NULL, 
	attack_exits JSON, 
	benign_exits JSON, 
	attack_macs BIGINT NOT NULL, 
	benign_macs BIGINT NOT NULL, 
	attack_seconds DOUBLE, 
	benign_seconds DOUBLE, 
	benign_correct BIGINT NOT NULL, 
	query_digest VARCHAR(255), 
	answer_digest VARCHAR(255), 
	countermeasure JSON, 
	CONSTRAINT pk_round PRIMARY KEY (episode_id, bucket), 
	CONSTRAINT fk_round_episode_id_episode FOREIGN KEY(episode_id) REFERENCES episode (id) ON DELETE CASCADE
);
INSERT INTO "round" VALUES('1e1bdb60ce64',0,0,1,64,21,64,'[64]','[21]',7446528,2443392,1.47971599994889402296e-03,3.01939250000486936187e-02,8,'54f1d7ca752bfd05','95fb10adea217576',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',12,1,1,64,21,128,'[64]','[21]',7446528,2443392,2.89026390000799437984e-02,8.98262999953658436425e-04,7,'5c4b0e5e22530b8a','81800280b5fbe958',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',25,2,1,64,22,192,'[64]','[22]',7446528,2559744,3.77899372000001676497e-01,3.17555105000110415858e-01,8,'fa8f42fe70466d25','8259e39fc0bddd3f',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',38,3,1,64,21,256,'[64]','[21]',7446528,2443392,2.24899531999881219235e-01,3.7108353700000407116e-01,9,'55aabbcb67195e51','3228ac21747ac827',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',51,4,1,64,21,320,'[64]','[21]',7446528,2443392,6.11918000004152418114e-04,1.04799499990804179105e-03,8,'f6efbea2ea74e85f','e41deca557c7bda0',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',64,5,1,64,22,384,'[64]','[22]',7446528,2559744,6.18326999983764835633e-04,9.74935999920489848591e-04,8,'21f9684f67a5f91c','498c4cec3d3f4f5c',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',76,6,1,64,21,448,'[64]','[21]',7446528,2443392,5.86109999858308583498e-04,0.000849990999995498,8,'c7a7d53edbca05db','0ae77c84022cdde4',NULL);
INSERT INTO "round" VALUES('1e1bdb60ce64',89,7,1,52,17,500,'[52]','[17]',6050304,1977984,1.09361299996635352727e-03,2.98760030000266851857e-02,9,'e2af15ee57215b92','b9ea3ed9a1f1585a',NULL);
INSERT INTO "round" VALUES('e2f301840be1',0,0,1,64,21,64,'[64]','[21]',7446528,2443392,3.47720838999975967453e-01,3.07419605999939449247e-01,8,'ab7b74222d7152c7','4f6bedbea83d7f47',NULL);
INSERT INTO "round" VALUES('e2f301840be1',12,1,1,64,21,128,'[64]','[21]',7446528,2443392,0.394300899999962,0.359530679000045,1,'d8a8e4351334c592','669230d1bb90b122',NULL);
INSERT INTO "round" VALUES('e2f301840be1',25,2,1,64,22,192,'[64]','[22]',7446528,2559744,2.97313990001839556498e-02,1.45047199998771247919e-03,7,'d713f825380ea076','ab5447c732f38142',NULL);
INSERT INTO "round" VALUES('e2f301840be1',38,3,1,64,21,256,'[64]','[21]',7446528,2443392,4.07215093999866439844e-01,9.3285399998421780765e-04,2,'84a13deb26b3b67e','8040e30106a9c1f0',NULL);
INSERT INTO "round" VALUES('e2f301840be1',51,4,1,64,21,320,'[64]','[21]',7446528,2443392,4.15613840000332857016e-02,1.51589000006424612365e-03,3,'66168a142a7fb084','fb907c001e5d89d5',NULL);
INSERT INTO "round" VALUES('e2f301840be1',64,5,1,64,22,384,'[64]','[22]',7446528,2559744,0.355844493999939,2.67540298000085385865e-01,6,'5c14cc6b815e0e88','036b2220806d786f',NULL);
INSERT INTO "round" VALUES('e2f301840be1',76,6,1,64,21,448,'[64]','[21]',7446528,2443392,8.67797000182690680958e-04,1.09256200016716320533e-03,4,'d814fcfe9940374a','84fccb7b8f684ba9',NULL);
INSERT INTO "round" VALUES('e2f301840be1',89,7,1,52,17,500,'[52]','[17]',6050304,1977984,3.07917154000051596085e-01,2.95604386999912094324e-01,3,'35bd92696494adcb','585f4c49cd3d40ec',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',0,0,5,5,1,5,'[5]','[1]',581760,116352,4.15447830000175599707e-01,5.9108699997523217462e-04,1,'eb9fcfb000000000','ab822e084e125719',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',1,5,5,5,2,10,'[5]','[2]',581760,232704,2.63267069999528757762e-02,1.67375022000214812578e-01,0,'3083836000000000','d87e4243b82576f2',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',2,10,1,20,7,30,'[20]','[7]',2327040,814464,2.51908420000290789175e-02,1.36277199999312870204e-03,3,'696e126000000000','2e47105227c69d86',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',6,11,1,135,45,165,'[135]','[45]',15707520,5235840,0.403745224999966,3.91860077999808709137e-01,16,'27812577f8886abb','7acf019a143b557e',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',33,12,1,135,45,300,'[135]','[45]',15707520,5235840,1.13272100020367361139e-03,2.84153650999996898462e-01,17,'56cf12de5c3cdeb6','85cfb6fe1c9ccf76',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',60,13,1,50,16,350,'[50]','[16]',5817600,1861632,1.81328145999941625632e-01,1.40492499986066832207e-03,6,'4e5ee48e0838d427','876dfb8d65113a21',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',70,14,1,50,17,400,'[50]','[17]',5817600,1977984,3.35666001000163305434e-01,3.46549546000005648238e-01,7,'1a4f3f86a4fd9558','6f79f0407e67320c',NULL);
INSERT INTO "round" VALUES('9ce3f0bc550d',80,15,1,100,33,500,'[100]','[33]',11635200,3839616,3.79804508000006535439e-01,3.71888151000121069955e-01,15,'03d31f7f362cd0f3','6a4abc08cdf76919',NULL);
INSERT INTO "round" VALUES('577f639623c2',0,0,5,5,1,5,'[5]','[1]',581760,116352,4.44692974000190588412e-01,3.74453650001669302582e-02,0,'eb9fcfb000000000','ebda585eeebe1f35',NULL);
INSERT INTO "round" VALUES('577f639623c2',1,5,5,5,2,10,'[5]','[2]',581760,232704,2.60164983000095162424e-01,3.33602324000139560666e-01,1,'3083836000000000','6110d11c27a0442a',NULL);
INSERT INTO "round" VALUES('577f639623c2',2,10,1,20,7,30,'[20]','[7]',2327040,814464,2.55642141999942396068e-01,2.86524688999861609772e-01,3,'696e126000000000','210bd51c309815e2',NULL);
INSERT INTO "round" VALUES('577f639623c2',6,11,1,135,45,165,'[135]','[45]',15707520,5235840,3.27858975000026475754e-01,3.56423673999870516126e-01,8,'77ea094238a2c7b8','6632cb0b9250578b',NULL);
INSERT INTO "round" VALUES('577f639623c2',33,12,1,135,45,300,'[135]','[45]',15707520,5235840,3.18418707000091671943e-01,3.60083504999920478439e-01,7,'8600301cff046170','88be7fefb52316f4',NULL);
INSERT INTO "round" VALUES('577f639623c2',60,13,1,50,16,350,'[50]','[16]',5817600,1861632,3.46833280000282684341e-02,1.06295800014777341857e-03,4,'322afeb9b95c2e2c','91ee3b7b552423d9',NULL);
INSERT INTO "round" VALUES('577f639623c2',70,14,1,50,17,400,'[50]','[17]',5817600,1977984,2.84526784000036059296e-01,3.12193164000063916319e-01,5,'148cbfb7834c2be8','98681662029c3f7e',NULL);
INSERT INTO "round" VALUES('577f639623c2',80,15,1,100,33,500,'[100]','[33]',11635200,3839616,7.13788699999895470682e-02,2.37386669998613797361e-02,6,'fdcea17e69aad195','a233a65cc8de90db',NULL);
CREATE TABLE run (
	id VARCHAR(12) NOT NULL, 
	created DATETIME NOT NULL, 
	command TEXT NOT NULL, 
	scenario_name VARCHAR(255) NOT NULL, 
	scenario_text TEXT NOT NULL, 
	versions JSON, 
	git_commit VARCHAR(255), 
	git_dirty BOOLEAN, 
	host VARCHAR(255) NOT NULL, 
	device VARCHAR(255), 
	python VARCHAR(255) NOT NULL, 
	CONSTRAINT pk_run PRIMARY KEY (id)
);
INSERT INTO "run" VALUES('7e15cd0ee24f','2026-11-26 00:58:12.989762','arena run tiny.toml','tiny','version = 1
name = "tiny"
description = "A small match that an earlier version played."
seeds = [0, 1]
checkpoints = 4

[data]
use = "digits"

[victim]
use = "conv-small"
recipe = { epochs = 1 }

[clone]
use = "mlp-small"

[threat]
budget = 500
latency = "virtual"

[traffic]
benign = 0.25

[[attackers]]
use = "noise"
name = "noise"

[[attackers]]
use = "exit-timing"
name = "exit-timing"

[[defenders]]
name = "undefended"
defence = [{ use = "undefended" }]
','{"python":"3.11.7","fortress-arena":"0.1.0","torch":"2.14.1","torchvision":"0.29.1","numpy":"2.4.6","gymnasium":"1.4.0","scikit-learn":"1.9.1","torch-threads":"2"}',NULL,NULL,'elsewhere','cpu','3.11.7');
CREATE INDEX ix_run_created ON run (created);
CREATE INDEX ix_episode_attacker_defender ON episode (attacker, defender);
CREATE INDEX ix_episode_plan_hash_status ON episode (plan_hash, status);
CREATE INDEX ix_episode_run_id ON episode (run_id);
CREATE INDEX ix_episode_scenario_name ON episode (scenario_name);
CREATE INDEX ix_episode_started ON episode (started);
CREATE INDEX ix_episode_status_host ON episode (status, host);
CREATE INDEX ix_artifact_episode_id ON artifact (episode_id);
CREATE INDEX ix_event_episode_id ON event (episode_id);
CREATE INDEX ix_inference_episode_id ON inference (episode_id);
CREATE VIEW newest AS
SELECT * FROM (
    SELECT episode.*, row_number() OVER (
        PARTITION BY plan_hash ORDER BY started DESC, id DESC
    ) AS age
    FROM episode
    WHERE status = 'success' AND kind = 'play'
) AS ranked
WHERE age = 1;
CREATE VIEW scoreboard AS
SELECT
    scenario_name, attacker, defender, victim, clone, data, budget,
    count(*) AS seeds,
    avg(clone_accuracy) AS clone_accuracy,
    min(clone_accuracy) AS clone_accuracy_min,
    max(clone_accuracy) AS clone_accuracy_max,
    avg(clone_fidelity) AS clone_fidelity,
    avg(victim_accuracy) AS victim_accuracy,
    avg(served_accuracy) AS served_accuracy,
    avg(victim_accuracy - served_accuracy) AS utility_loss,
    avg(distortion_mean) AS distortion_mean,
    avg(attack_compute_share) AS attack_compute_share,
    avg(benign_compute_share) AS benign_compute_share,
    json_remove(plan, '$.seed', '$.after', '$.lesson') AS settings
FROM newest
GROUP BY scenario_name, attacker, defender, victim, clone, data, budget, json_remove(plan, '$.seed', '$.after', '$.lesson');
CREATE VIEW curve AS
SELECT
    episode.id AS episode_id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, episode.status, episode.kind, episode.budget,
    checkpoint."index" AS checkpoint,
    checkpoint.queries_used,
    checkpoint.queries_used * 1.0 / nullif(episode.budget, 0) AS budget_share,
    checkpoint.clone_accuracy, checkpoint.clone_fidelity, checkpoint.wall_seconds
FROM checkpoint JOIN episode ON episode.id = checkpoint.episode_id;
CREATE VIEW exits AS
SELECT
    episode.id AS episode_id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, round.bucket, round.queries_used, 'attack' AS traffic,
    each.key AS exit, each.value AS answered
FROM round JOIN episode ON episode.id = round.episode_id, json_each(round.attack_exits) AS each
UNION ALL
SELECT
    episode.id, episode.scenario_name, episode.attacker, episode.defender,
    episode.seed, round.bucket, round.queries_used, 'benign',
    each.key, each.value
FROM round JOIN episode ON episode.id = round.episode_id, json_each(round.benign_exits) AS each;
COMMIT;
